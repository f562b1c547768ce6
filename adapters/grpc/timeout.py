"""`grpc-timeout`, on every wire whose callers may say how long they wait."""

from __future__ import annotations

import re

from gateway.errors import CallerError, Reason

NAME = "grpc-timeout"

_TIMEOUT = re.compile(r"(\d{1,8})([HMSmun])\Z", re.ASCII)
_UNITS = {"H": 3600.0, "M": 60.0, "S": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}
_MOST = 10**8


def seconds_of(text: str | None) -> float | None:
    """Seconds of a grpc-timeout: one to eight digits and a unit (PROTOCOL-HTTP2.md). CallerError(PROTOCOL) for anything else."""
    if text is None:
        return None
    found = _TIMEOUT.match(text)
    if found is None:
        raise CallerError(Reason.PROTOCOL, "grpc-timeout is one to eight digits and a unit")
    return int(found[1]) * _UNITS[found[2]]


def timeout_of(seconds: float) -> str:
    """The grpc-timeout of seconds, never longer than they are."""
    for unit in ("n", "u", "m", "S"):
        if (count := int(max(seconds, 0.0) / _UNITS[unit])) < _MOST:
            return f"{count}{unit}"
    return f"{_MOST - 1}S"
