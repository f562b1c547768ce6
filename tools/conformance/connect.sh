#!/bin/bash
# Run the Connect conformance suite against the gateway: Connect, gRPC-Web and gRPC. Needs Go to build it, once.
set -euo pipefail
cd "$(dirname "$0")/../.."
exec .venv/bin/python tools/conformance/connect/suite.py "$@" </dev/null
