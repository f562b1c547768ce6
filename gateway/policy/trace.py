"""W3C Trace Context (level 1): which trace an exchange belongs to, and the span that its inside sees as its parent."""

from __future__ import annotations

import random
import re

from gateway.message import Headers

# 3.2: version, trace id, parent id, flags. Version ff is invalid; a later version may have more after the flags (4.3).
_PARENT = re.compile(r"(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-([0-9a-f]{2})(-.*)?")
_NAMES = frozenset({"traceparent", "tracestate"})
# A caller without a trace: whoever is behind us decides as if it stood first, which by default is to sample.
_SAMPLED = "01"

_bits = random.getrandbits
# 128 bits of trace id and 64 of span id, of which neither may be all zero.
_NOT_ZERO = 1 << 64 | 1


def traced(headers: Headers) -> tuple[Headers, str]:
    """The headers with a `traceparent` that holds a new span of ours, and the trace's id.

    A valid one of the caller is honoured, with its `tracestate`. Otherwise both are dropped (3.2.2.3, 3.3.1) and a trace begins.
    """
    others = [pair for pair in headers if pair[0] not in _NAMES]
    trace, flags = "", _SAMPLED
    if len(others) < len(headers):
        trace, flags = _continued(headers)
        if trace:
            others += [pair for pair in headers if pair[0] == "tracestate"]
    bits = f"{_bits(192) | _NOT_ZERO:048x}"
    trace = trace or bits[:32]
    others.append(("traceparent", f"00-{trace}-{bits[32:]}-{flags}"))
    return Headers(others), trace


def _continued(headers: Headers) -> tuple[str, str]:
    """Trace id and flags of the one valid `traceparent`; "" where there is none, or more than one."""
    parents = headers.all("traceparent")
    valid = _PARENT.fullmatch(parents[0]) if len(parents) == 1 else None
    if valid is None or (valid[1] == "00" and valid[4]):
        return "", _SAMPLED
    # 3.2.2.5: flags that are not known are not handed on. Sampled, and (level 2) random, are.
    return valid[2], f"{int(valid[3], 16) & 3:02x}"
