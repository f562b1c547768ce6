"""The library's contract, compiled once."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from google.api import http_pb2
from grpc_tools import protoc

HERE = Path(__file__).parent


@cache
def descriptor_set() -> bytes:
    """A FileDescriptorSet with everything that it imports."""
    with TemporaryDirectory() as folder:
        out = Path(folder) / "library.binpb"
        includes = [HERE, Path(protoc.__file__).parent / "_proto", Path(http_pb2.__file__).parents[2]]
        arguments = [f"-I{one}" for one in includes]
        done = protoc.main(["protoc", *arguments, "--include_imports", f"--descriptor_set_out={out}", "library.proto"])
        if done:
            raise RuntimeError("library.proto does not compile")
        return out.read_bytes()
