"""Run the Connect conformance suite (connectrpc.com/conformance) against the gateway, in front of the suite's own gRPC server.

    tools/conformance/connect.py [connect|grpc_web|grpc ...] [-- flags of connectconformance]

What is known to fail, and why, stands in known-failing.txt beside this file: a case there that passes is a failure too.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
CACHE = ROOT / "var" / "conformance"
MODULE, VERSION = "connectrpc.com/conformance", "v1.0.5"
SERVICE = "connectrpc/conformance/v1/service.proto"
SERVER_COMPAT = "connectrpc/conformance/v1/server_compat.proto"

PROTOCOLS = {
    "connect": ("HTTP_VERSION_1", "CODEC_PROTO, CODEC_JSON"),
    "grpc_web": ("HTTP_VERSION_1", "CODEC_PROTO, CODEC_JSON"),
    "grpc": ("HTTP_VERSION_2", "CODEC_PROTO"),
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
_TOTAL = re.compile(r"^(\d+) passed, (\d+) failed", re.MULTILINE)
_KNOWN = re.compile(r"\((\d+) failed as expected")


def prepare() -> tuple[Path, Path]:
    """The suite's programs and its contract as a descriptor set, built once: (folder of programs, descriptor set)."""
    programs, contract = CACHE / "bin", CACHE / f"conformance-{VERSION}.binpb"
    if not all((programs / name).exists() for name in ("connectconformance", "grpcserver")):
        programs.mkdir(parents=True, exist_ok=True)
        commands = [f"{MODULE}/cmd/{name}@{VERSION}" for name in ("connectconformance", "grpcserver")]
        subprocess.run(["go", "install", *commands], check=True, env={**os.environ, "GOBIN": str(programs)})  # noqa: S607
    if not contract.exists():
        found = subprocess.run(  # noqa: S607
            ["go", "mod", "download", "-json", f"{MODULE}@{VERSION}"], check=True, capture_output=True, text=True
        )
        protos = Path(json.loads(found.stdout)["Dir"]) / "proto"
        protoc = [sys.executable, "-m", "grpc_tools.protoc", "-I", str(protos), "--include_imports"]
        subprocess.run([*protoc, f"--descriptor_set_out={contract}", SERVICE, SERVER_COMPAT], check=True)
    return programs, contract


def run(protocol: str, programs: Path, flags: list[str]) -> bool:
    """Run the suite for one protocol, print its count, and say whether nothing failed that is not known to."""
    version, codecs = PROTOCOLS[protocol]
    h2 = version == "HTTP_VERSION_2"
    config = CACHE / f"{protocol}.yaml"
    config.write_text(
        FEATURES.format(
            version=version, protocol=protocol.upper(), codecs=codecs, h2c=str(h2).lower(), half=str(not h2).lower()
        )
    )
    command = [str(programs / "connectconformance"), "--mode", "server", "--conf", str(config)]
    known = HERE / f"known-failing-{protocol}.txt"
    if known.exists():
        command += ["--known-failing", f"@{known}"]
    command += [*flags, "--", sys.executable, str(HERE / "server.py")]
    done = subprocess.run(command, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    total = _TOTAL.search(done.stdout)
    if total is None or done.returncode:
        print(done.stdout)
    expected = _KNOWN.search(done.stdout)
    if total is not None:
        print(f"conformance {protocol}: {total[1]} passed, {total[2]} failed, {expected[1] if expected else 0} known to fail")
    return done.returncode == 0


def main() -> int:
    """Run what the command line names, else all."""
    words = sys.argv[1:]
    cut = words.index("--") if "--" in words else len(words)
    programs, _ = prepare()
    results = [run(protocol, programs, words[cut + 1 :]) for protocol in words[:cut] or PROTOCOLS]
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
