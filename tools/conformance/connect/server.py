"""The server under test: the gateway in front of the suite's own gRPC server. connectconformance starts it, once a setting.

It is told what is wanted on its standard input and tells where it listens on its standard output: one message each
(server_compat.proto), its length before it.
"""

from __future__ import annotations

import asyncio
import ctypes
import signal
import struct
import sys
import tempfile
from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from suite import prepare

from gateway.plan import plan
from gateway.process import serve
from gateway.server import Gateway

PACKAGE = "connectrpc.conformance.v1"
CONFIG = """\
contracts: [{contract}]
listeners:
  web: {{kind: rest, bind: "127.0.0.1:0", max_body: {limit}{tls}}}
  rpc: {{kind: grpc, bind: "127.0.0.1:0", max_message: {limit}{tls}}}
backends:
  reference: {{kind: grpc, address: "{backend}"}}
policies: [{{kind: observe, log: none}}]
drain: {{seconds: 1}}
routes:
"""
ROUTE = "  - {{name: {name}, when: {{grpc: {method}}}, to: {{backend: reference, call: {method}}}}}\n"
GRPC = 2
PR_SET_PDEATHSIG = 1


class Compat:
    """The messages of server_compat.proto."""

    def __init__(self, contract: Path) -> None:
        files = descriptor_pb2.FileDescriptorSet.FromString(contract.read_bytes())
        pool = descriptor_pool.DescriptorPool()
        for file in files.file:
            pool.Add(file)
        kinds = (f"{PACKAGE}.ServerCompatRequest", f"{PACKAGE}.ServerCompatResponse")
        self.request, self.response = (message_factory.GetMessageClass(pool.FindMessageTypeByName(kind)) for kind in kinds)
        service = pool.FindServiceByName(f"{PACKAGE}.ConformanceService")
        self.methods = [f"{service.full_name}/{method.name}" for method in service.methods]


def framed(message: Any) -> bytes:
    """A message with its length before it."""
    body: bytes = message.SerializeToString()
    return struct.pack(">I", len(body)) + body


def config(wanted: Any, contract: Path, methods: list[str], backend: str, folder: Path) -> Path:
    """The gateway's config file: every method of the service to the reference server."""
    tls = ""
    if wanted.use_tls:
        (folder / "cert.pem").write_bytes(wanted.server_creds.cert)
        (folder / "key.pem").write_bytes(wanted.server_creds.key)
        client = ""
        if wanted.client_tls_cert:
            (folder / "ca.pem").write_bytes(wanted.client_tls_cert)
            client = f", client_ca: {folder}/ca.pem"
        tls = f", tls: {{certificate: {folder}/cert.pem, key: {folder}/key.pem{client}}}"
    text = CONFIG.format(contract=contract, limit=wanted.message_receive_limit or 4 << 20, tls=tls, backend=backend)
    file = folder / "gateway.yaml"
    file.write_text(text + "".join(ROUTE.format(name=method.rpartition("/")[2], method=method) for method in methods))
    return file


def _die_with_us() -> None:
    """Linux: the kernel ends the child when we end, however that is. It would hold the suite's pipes open for ever."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


async def main() -> None:
    """Serve until the suite ends us."""
    programs, contract = prepare()
    compat = Compat(contract)
    stdin = sys.stdin.buffer
    wanted: Any = compat.request.FromString(stdin.read(struct.unpack(">I", stdin.read(4))[0]))
    upstream = await asyncio.create_subprocess_exec(
        str(programs / sys.argv[1]), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, preexec_fn=_die_with_us
    )
    assert upstream.stdin is not None and upstream.stdout is not None  # noqa: PT018, S101  asked for just above
    upstream.stdin.write(framed(compat.request(protocol=GRPC, http_version=2, message_receive_limit=4 << 20)))
    upstream.stdin.close()
    size = struct.unpack(">I", await upstream.stdout.readexactly(4))[0]
    there: Any = compat.response.FromString(await upstream.stdout.readexactly(size))
    with tempfile.TemporaryDirectory() as folder:
        file = config(wanted, contract, compat.methods, f"{there.host}:{there.port}", Path(folder))
        listener = "rpc" if wanted.protocol == GRPC else "web"

        def started(gateway: Gateway) -> None:
            address = gateway.addresses[listener]
            certificate = wanted.server_creds.cert if wanted.use_tls else b""
            sys.stdout.buffer.write(framed(compat.response(host=address.host, port=address.port, pem_cert=certificate)))
            sys.stdout.buffer.flush()

        try:
            await serve(plan(file), started)
        finally:
            upstream.terminate()
            await upstream.wait()


if __name__ == "__main__":
    asyncio.run(main())
