"""Makes every file that is made from another one; with --check, says which are stale and changes nothing.

A product is a function that returns the text or bytes each of its files should have. To add one, write the function and
put it into PRODUCTS: `make generate` writes it and `make test` fails when it is stale.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from google.rpc import status_pb2
from grpc_tools import protoc
from reference import pages

from gateway.document import schema

ROOT = Path(__file__).resolve().parents[1]
Product = Callable[[], Mapping[str, bytes | str]]


def descriptor_sets() -> Mapping[str, bytes]:
    """What is read instead of generated code, imports included: by listeners and codecs protos/shop.binpb, and by both ends of a
    WebSocket our own messages alone.
    """
    return {
        "protos/shop.binpb": _compiled(sorted((ROOT / "protos").glob("*/v1/*.proto"))),
        "adapters/websocket/polygate.binpb": _compiled(sorted((ROOT / "protos/polygate").glob("v1/*.proto"))),
    }


def _compiled(sources: Sequence[Path]) -> bytes:
    roots = [
        ROOT / "protos",
        Path(protoc.__file__).parent / "_proto",  # google/protobuf
        Path(status_pb2.__file__).parents[2],  # google/rpc, google/api: googleapis-common-protos
    ]
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "set.binpb"
        # Source info is left out: comments are not part of the contract, and a changed comment makes nothing stale.
        words = [f"--proto_path={root}" for root in roots]
        words += ["--include_imports", f"--descriptor_set_out={out}", *map(str, sources)]
        if protoc.main(["protoc", *words]):
            sys.exit("generate: protoc refused the files under protos/")
        return out.read_bytes()


def config_schema() -> Mapping[str, str]:
    """config/schema.json: what editors check a config with."""
    return {"config/schema.json": json.dumps(schema(), indent=1, ensure_ascii=False) + "\n"}


PRODUCTS: tuple[Product, ...] = (descriptor_sets, config_schema, pages)


def main() -> int:
    """Write what is stale, or name it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; status 1 when something is stale")
    check = parser.parse_args().check
    stale = 0
    for product in PRODUCTS:
        for name, content in product().items():
            path = ROOT / name
            wanted = content.encode() if isinstance(content, str) else content
            if path.exists() and path.read_bytes() == wanted:
                continue
            stale += 1
            if check:
                print(f"generate: {name} is stale; run `make generate` and commit it", file=sys.stderr)
            else:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(wanted)
                print(f"generate: wrote {name}")
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
