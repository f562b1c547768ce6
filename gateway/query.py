"""Names and values as URLs and forms write them: `a=1&b=2` (WHATWG URL 5.1, read strictly)."""

from __future__ import annotations

import re
from urllib.parse import unquote_plus

from gateway.errors import CallerError, Reason

_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")

Pairs = tuple[tuple[str, str], ...]


def pairs_of(text: str, what: str = "the query") -> Pairs:
    """The pairs, in order: cut at "&" only, "+" a space, percent-decoded once, UTF-8. CallerError(MALFORMED) of `what`."""
    if not text:
        return ()
    if _BAD_ESCAPE.search(text):
        raise CallerError(Reason.MALFORMED, f"{what} has a malformed %-escape")
    try:
        pairs = (part.partition("=") for part in text.split("&") if part)
        found = tuple((unquote_plus(name, errors="strict"), unquote_plus(value, errors="strict")) for name, _, value in pairs)
    except UnicodeDecodeError as error:
        raise CallerError(Reason.MALFORMED, f"{what} is not UTF-8") from error
    return found
