"""The codec against protobuf's own json_format, on the same messages in the same run: JSON to the wire form, and back.

    python -m benchmarks codec

CPU time of this process. Both start from bytes and end in bytes.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2, json_format
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass
from grpc_tools import protoc

from adapters.codec.protobuf import MessageType, Pool

ROUNDS = 7
ROUND_S = 0.05
PROTOS = Path(__file__).parent
SHOP = PROTOS.parent / "protos" / "shop.binpb"


@dataclass(frozen=True, slots=True)
class Sample:
    """One message, by its JSON."""

    name: str
    body: bytes
    goal: float


def _invoice() -> bytes:
    address = '{"street":"1 Harbour Road","city":"Bergen","postalCode":"5003","country":"NO"}'
    party = f'{{"displayName":"Fjord Tea and Coffee","address":{address},"phoneNumbers":["+47 55 00 00 00","+47 55 00 00 01"]}}'
    lines = ",".join(
        f'{{"sku":"TEA-{at:04}","description":"Earl \\u2019Grey, loose, tin of {at} ounces","quantity":{at + 1},'
        f'"unitPrice":{{"currency":"NOK","units":"{129 + at}","nanos":900000000}},"discount":0.{at + 1},"gift":true,'
        f'"serialNumbers":[{1000 + at},{2000 + at},{300000 + at}],"reservedUntil":"17952599{at:02}000"}}'
        for at in range(18)
    )
    labels = '{"channel":"web","campaign":"autumn","warehouse":"west"}'
    return (
        f'{{"invoiceId":"2026-000417","issuedAt":"2026-11-21T10:51:26.250Z","seller":{party},"buyer":{party},'
        f'"lines":[{lines}],"state":"STATE_OPEN","labels":{labels}}}'
    ).encode()


SAMPLES = (
    Sample("shop.v1.PlaceOrder", b'{"customer":"ada","sku":"tea","quantity":2}', 4.0),
    Sample("shop.v1.StockLevel", b'{"sku":"tea","quantity":42}', 4.0),
    Sample("shop.v1.Quote", b'{"sku":"tea","quantity":2,"price":4.2}', 4.0),
    Sample("bench.v1.Item", b'{"id":"item-000417","quantity":3,"price":12.5,"inStock":true}', 4.0),
    Sample("bench.v1.Invoice", _invoice(), 3.0),
)


def descriptors() -> DescriptorPool:
    """The shop's contract, and that of this folder."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "bench.binpb"
        google = Path(protoc.__file__).parent / "_proto"
        status = protoc.main(["", f"-I{PROTOS}", f"-I{google}", "--include_imports", f"-o{out}", "items.proto", "invoice.proto"])
        if status:
            raise SystemExit(status)
        sets = [descriptor_pb2.FileDescriptorSet.FromString(path.read_bytes()) for path in (SHOP, out)]
    pool = DescriptorPool()
    for file in {file.name: file for files in sets for file in files.file}.values():
        pool.Add(file)
    return pool


def seconds(work: Callable[[bytes], object], body: bytes, *, quick: bool) -> float:
    """CPU seconds of one run, in the best of some rounds: noise only ever adds."""
    work(body)
    number, best = 1, float("inf")
    for _ in range(2 if quick else ROUNDS):
        while True:
            started = time.process_time()
            for _ in range(number):
                work(body)
            taken = time.process_time() - started
            if taken >= ROUND_S:
                break
            number *= 2
        best = min(best, taken / number)
    return best


def main(*, quick: bool = False) -> bool:
    """Print the table; False where a goal is missed."""
    pool = descriptors()
    kinds = Pool(pool)
    good = True
    print(f"{'codec, us of CPU a message':<28}{'bytes':>7}{'':>4}{'json_format':>12}{'ours':>8}{'ratio':>7}{'goal':>6}")
    for sample in SAMPLES:
        descriptor = pool.FindMessageTypeByName(sample.name)
        make: Any = GetMessageClass(descriptor)
        ours = MessageType(descriptor, kinds)
        packed = ours.pack_json(sample.body)

        def parse(body: bytes, make: Any = make) -> bytes:
            return bytes(json_format.Parse(body, make(), descriptor_pool=pool).SerializeToString())

        def show(body: bytes, make: Any = make) -> bytes:
            return json_format.MessageToJson(make.FromString(body), indent=None, descriptor_pool=pool).encode()

        if packed != parse(sample.body) and make.FromString(packed) != make.FromString(parse(sample.body)):
            raise SystemExit(f"{sample.name}: the two do not say the same")
        for way, theirs, own, body in (("in", parse, ours.pack_json, sample.body), ("out", show, ours.unpack_json, packed)):
            slow, fast = seconds(theirs, body, quick=quick), seconds(own, body, quick=quick)
            ratio = slow / fast
            verdict = "" if ratio >= sample.goal else " MISSED"
            good &= not verdict
            row = f"{sample.name:<28}{len(body):>7}{way:>4}{slow * 1e6:>12.2f}{fast * 1e6:>8.2f}{ratio:>7.1f}{sample.goal:>6.1f}"
            print(row + verdict, flush=True)
    return good


if __name__ == "__main__":
    sys.exit(0 if main() else 1)
