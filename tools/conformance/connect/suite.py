"""Run the Connect conformance suite (connectrpc.com/conformance) against the gateway, in front of the suite's own gRPC server.

    tools/conformance/connect.sh [connect|connect-get|grpc-web|grpc ...] [-- flags of connectconformance]

What is known to fail, and why, stands in known-failing-*.txt beside this file: a case there that passes is a failure too. What
fails now and then stands in known-flaky.txt.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).parent
MODULE, VERSION = "connectrpc.com/conformance", "v1.0.5"
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "polygate-conformance" / f"connect-{VERSION}"
SERVICE = "connectrpc/conformance/v1/service.proto"
SERVER_COMPAT = "connectrpc/conformance/v1/server_compat.proto"

PROGRAMS = ("connectconformance", "grpcserver", "referenceserver")


class Run(NamedTuple):
    """One run of the suite."""

    protocol: str
    version: str
    codecs: str
    backend: str
    """Which of the suite's servers the gateway calls, by gRPC."""
    only: str = ""
    """A pattern of the cases that are run; all of them unless told."""


H1, H2 = "HTTP_VERSION_1", "HTTP_VERSION_2"
BOTH = "CODEC_PROTO, CODEC_JSON"
RUNS = {
    "connect": Run("CONNECT", H1, BOTH, "grpcserver"),
    # The suite's gRPC server lacks the one method that GET may call; its other server has it.
    "connect-get": Run("CONNECT", H1, BOTH, "referenceserver", "Connect with GET/**"),
    "grpc-web": Run("GRPC_WEB", H1, BOTH, "grpcserver"),
    "grpc": Run("GRPC", H2, "CODEC_PROTO", "grpcserver"),
}
FEATURES = """\
features:
  versions: [{version}]
  protocols: [PROTOCOL_{protocol}]
  codecs: [{codecs}]
  compressions: [COMPRESSION_IDENTITY, COMPRESSION_GZIP]
  supportsTls: false
  supportsH2c: {h2c}
  supportsHalfDuplexBidiOverHttp1: {half}
  supportsConnectGet: true
  supportsMessageReceiveLimit: true
"""
RUN_S = 300
_TOTAL = re.compile(r"^(\d+) passed, (\d+) failed", re.MULTILINE)
_KNOWN = re.compile(r"(\d+) failed as expected")


def prepare() -> tuple[Path, Path]:
    """The suite's programs and its contract as a descriptor set, built once: (folder of programs, descriptor set)."""
    programs, contract = CACHE / "bin", CACHE / "contract.binpb"
    if not all((programs / name).exists() for name in PROGRAMS):
        programs.mkdir(parents=True, exist_ok=True)
        commands = [f"{MODULE}/cmd/{name}@{VERSION}" for name in PROGRAMS]
        subprocess.run(["go", "install", *commands], check=True, env={**os.environ, "GOBIN": str(programs)})  # noqa: S607
    if not contract.exists():
        asking = ["go", "mod", "download", "-json", f"{MODULE}@{VERSION}"]
        found = subprocess.run(asking, check=True, capture_output=True, text=True)
        protos = Path(json.loads(found.stdout)["Dir"]) / "proto"
        protoc = [sys.executable, "-m", "grpc_tools.protoc", "-I", str(protos), "--include_imports"]
        subprocess.run([*protoc, f"--descriptor_set_out={contract}", SERVICE, SERVER_COMPAT], check=True)
    return programs, contract


def run(name: str, programs: Path, flags: Sequence[str]) -> bool:
    """Run the suite once, print its count, and say whether nothing failed that is not known to."""
    one = RUNS[name]
    h2 = one.version == H2
    config = CACHE / f"{name}.yaml"
    settings = {"version": one.version, "protocol": one.protocol, "codecs": one.codecs}
    config.write_text(FEATURES.format(**settings, h2c=str(h2).lower(), half=str(not h2).lower()))
    command = [str(programs / "connectconformance"), "--mode", "server", "--conf", str(config)]
    known = HERE / f"known-failing-{name}.txt"
    if known.exists():
        command += ["--known-failing", f"@{known}"]
    command += ["--known-flaky", f"@{HERE / 'known-flaky.txt'}"]
    if one.only:
        command += ["--run", one.only]
    command += [*flags, "--", sys.executable, str(HERE / "server.py"), one.backend]
    done = subprocess.run(
        command, check=False, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=RUN_S
    )
    total = _TOTAL.search(done.stdout)
    if total is None or done.returncode:
        print(done.stdout)
    if total is not None:
        expected = _KNOWN.search(done.stdout)
        listed = expected[1] if expected else 0
        print(f"connect suite, {name}: {total[1]} passed, {listed} failed as listed, {total[2]} failed")
    return done.returncode == 0


def main() -> int:
    """Run what the command line names, else all."""
    words = sys.argv[1:]
    cut = words.index("--") if "--" in words else len(words)
    programs, _ = prepare()
    results = [run(name, programs, words[cut + 1 :]) for name in words[:cut] or RUNS]
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
