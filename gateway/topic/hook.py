"""Where and how answers are called back: the config of a question's callbacks, and which URLs it allows."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from pydantic import Field

from gateway.errors import CallerError, FieldError, Reason
from gateway.exchange import Handler
from gateway.part import Part
from gateway.signature import Sign

MAX_URL = 2048

_SEGMENT = r"(?:[A-Za-z0-9\-._~!$&'()*+,;=:@]|%[0-9A-Fa-f]{2})+"
_PATH = re.compile(rf"{_SEGMENT}(?:/{_SEGMENT})*\Z")
_SLASH = re.compile(r"%2f", re.IGNORECASE)


class CallbackConfig(Part):
    """Send the answer to a URL that the caller names, as a signed webhook (Standard Webhooks)."""

    backends: tuple[str, ...] = Field(min_length=1, examples=[["hooks"]])
    """The http backends that may be called: a URL must begin with the `url` of one of them, and is refused otherwise. It can have
    no query.
    """
    sign: Sign = Field(examples=[{"secret": "${file:/run/secrets/webhook}"}])
    """What callbacks are signed with."""
    header: str = Field(default="callback-url", pattern=r"^[a-z0-9-]+$", max_length=100)
    """The header that the caller names its URL in."""
    member: str | None = Field(default=None, alias="field", min_length=1, examples=["callback_url"])
    """The top-level field of the message that may hold the URL as well."""
    seconds: float = Field(default=86_400.0, gt=0, le=30 * 86_400)
    """How long a callback is tried, from the question on; no longer than `keep`."""
    plain: bool = False
    """Take backends without TLS too (http URLs): anybody on the way can read the answers."""


@dataclass(frozen=True, slots=True)
class Hook:
    """How the answers of one target are called back."""

    posts: Mapping[str, Handler]
    """What posts to a path, by the URL that it is below, which ends in a slash."""
    seconds: float
    content_type: str
    """Of the answers."""


def path_of(posts: Mapping[str, Handler], url: str) -> tuple[Handler, str]:
    """Who posts to a URL, and the decoded path below its own. CallerError for any but a plain path below one of theirs."""
    below = _normal(url)
    for base, handler in posts.items():
        path = below.removeprefix(base)
        if path != below and _is_path(path):
            return handler, unquote(path)
    detail = "no callback is made to this URL"
    raise CallerError(Reason.INVALID, detail, details=(FieldError("", detail),))


def allows(posts: Mapping[str, Handler], url: str) -> bool:
    """Whether anybody posts to a URL."""
    try:
        path_of(posts, url)
    except CallerError:
        return False
    return True


def _normal(url: str) -> str:
    """A URL with its scheme and host in lower case (RFC 3986 6.2.2.1), the rest letter by letter; "" for what is none for us."""
    if len(url) > MAX_URL or not url.isascii() or not url.isprintable() or "?" in url or "#" in url:
        return ""
    try:
        parts = urlsplit(url)
    except ValueError:
        return ""
    return f"{parts.scheme}://{parts.netloc.lower()}{parts.path}"


def _is_path(path: str) -> bool:
    """Whether a text is a path as it stands: a slash that is written otherwise, or a dot segment, would make it another."""
    if not _PATH.match(path) or _SLASH.search(path):
        return False
    try:
        return not any(unquote(segment, errors="strict") in {".", ".."} for segment in path.split("/"))
    except UnicodeDecodeError:
        return False
