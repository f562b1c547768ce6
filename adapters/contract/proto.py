"""The contract source `proto`: .proto files, compiled by protoc in a process of its own when the config is loaded."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice
from pathlib import Path

import grpc_tools
from google.rpc import status_pb2
from pydantic import Field

from gateway.contract import ContractConfig, ContractError
from gateway.port import BackendConfig

COMPILE_S = 60.0
MAX_FILES = 5_000
SHOWN = 10

# What everybody imports, and few have a copy of: google/protobuf, and google/api, google/rpc, google/type.
OURS = (Path(grpc_tools.__path__[0]) / "_proto", Path(status_pb2.__file__).parents[2])
_PACKAGE = re.compile(r"(?:^|[;/])\s*package\s+([\w.]+)\s*;", re.MULTILINE)
_PLACED = re.compile(r"(?P<file>[^:]+):(?P<line>\d+):\d+: (?P<text>.*)\Z")
_WARNING = re.compile(r"[^ ]+: warning: ")


class Config(ContractConfig):
    """.proto files, compiled when the config is loaded. Google's own imports (google/protobuf, google/api, ...) are there."""

    proto: str = Field(min_length=1, examples=["protos"])
    """A .proto file, or a folder: every .proto in it. Imports start from the folder or, for one file, from where its package
    says: protos/ for protos/shop/v1/orders.proto of package shop.v1.
    """
    roots: tuple[str, ...] = Field(default=(), examples=[["vendor/protos"]])
    """More folders that imports may start from."""

    def inputs(self, folder: Path) -> Iterable[Path]:
        path = folder / self.proto
        # Of what one file imports, what is beside it; of all the rest, what is below.
        beside = () if path.is_dir() else (path, *path.parent.glob("*.proto"))
        below = (top for top in (path, *(folder / root for root in self.roots)) if top.is_dir())
        return islice(chain(beside, *((top, *_protos(top)) for top in below)), MAX_FILES)

    def read(self, folder: Path, backends: Mapping[str, BackendConfig]) -> bytes:
        del backends
        path = folder / self.proto
        files = sorted(path.rglob("*.proto")) if path.is_dir() else [path]
        if not files:
            raise ContractError(f"there is no .proto in {self.proto}")
        if len(files) > MAX_FILES:
            raise ContractError(f"{self.proto} has {len(files)} .proto files, more than {MAX_FILES}")
        own = path if path.is_dir() else _root(path, self.proto)
        roots = (own, *(folder / root for root in self.roots), *OURS)
        missing = [root for root in self.roots if not (folder / root).is_dir()]
        if missing:
            raise ContractError(*(f"the root {root} is no folder; it is looked for beside this file" for root in missing))
        return _compiled(files, roots, folder)


def _protos(top: Path) -> Iterator[Path]:
    """The .proto files below a folder, and the folders that may come to have some."""
    return (path for path in top.rglob("*") if path.suffix == ".proto" or path.is_dir())


def _root(path: Path, written: str) -> Path:
    """The folder that a file's imports start from: above those that its package names."""
    try:
        found = _PACKAGE.search(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError:
        found = None  # protoc says where
    except OSError as error:
        reason = (error.strerror or "no reason given").lower()
        raise ContractError(f"{written} cannot be read ({reason}); it is looked for beside this file") from error
    parent = path.parent
    steps = tuple(found[1].split(".")) if found is not None else ()
    return parent.parents[len(steps) - 1] if steps and parent.parts[-len(steps) :] == steps else parent


def _compiled(files: Sequence[Path], roots: Sequence[Path], folder: Path) -> bytes:
    with tempfile.TemporaryDirectory() as scratch:
        out, arguments = Path(scratch) / "set.binpb", Path(scratch) / "arguments"
        words = [*(f"--proto_path={root}" for root in roots), "--include_imports", "--include_source_info"]
        words += [f"--descriptor_set_out={out}", *map(str, files)]
        arguments.write_text("\n".join(words), encoding="utf-8")
        # A process of its own: protoc writes its errors to the process's stderr, and ends the process where it fails itself.
        command = [sys.executable, "-P", "-m", "grpc_tools.protoc", f"@{arguments}"]
        try:
            run = subprocess.run(  # noqa: S603  our own interpreter, our own arguments
                command, capture_output=True, timeout=COMPILE_S, check=False, stdin=subprocess.DEVNULL
            )
        except subprocess.TimeoutExpired as error:
            raise ContractError(f"protoc was not done within {COMPILE_S:g} s") from error
        if run.returncode == 0:
            return out.read_bytes()
    problems = list(_problems(run.stderr.decode(errors="replace"), roots, folder))
    more = [f"and {len(problems) - SHOWN} more problems of the same files"] if len(problems) > SHOWN else []
    raise ContractError(*(problems[:SHOWN] or [f"protoc ended with status {run.returncode} and no word"]), *more)


def _problems(said: str, roots: Sequence[Path], folder: Path) -> Iterator[str]:
    """What protoc says, with the path of each file as whoever wrote the config knows it."""
    for line in said.splitlines():
        if not line.strip() or _WARNING.match(line):
            continue
        placed = _PLACED.match(line)
        if placed is None:
            yield line
        else:
            yield f"{_shown(placed['file'], roots, folder)}:{placed['line']} {placed['text']}"


def _shown(name: str, roots: Sequence[Path], folder: Path) -> str:
    found = next((root / name for root in roots if (root / name).exists()), Path(name))
    return str(found.relative_to(folder) if found.is_relative_to(folder) else found)
