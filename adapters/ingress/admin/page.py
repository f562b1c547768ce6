"""The page that shows the documents: Swagger UI as npm has it, from this listener alone, and nothing inline."""

from __future__ import annotations

import gzip
from collections.abc import Iterable
from functools import cache
from importlib import resources
from typing import NamedTuple

_FOLDER = resources.files("adapters.ingress.admin")
_VIEWER = _FOLDER / "viewer"
_DAY = "public, max-age=86400"


class File(NamedTuple):
    """One file of the page."""

    content_type: str
    body: bytes
    zipped: bool = False


def policy(servers: Iterable[str]) -> str:
    """What the page may do (Content Security Policy 3): show itself, and try calls on the gateway's own listeners."""
    return "; ".join(
        (
            "default-src 'none'",
            "script-src 'self'",
            "style-src 'self'",
            "img-src 'self' data:",
            " ".join(("connect-src 'self'", *servers)),
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
        )
    )


@cache
def files() -> dict[str, File]:
    """Every file of the page by its path. Read when it is first asked for: most gateways are never asked."""
    return {
        "/docs": File("text/html; charset=utf-8", (_FOLDER / "page.html").read_bytes()),
        "/docs/page.js": File("text/javascript; charset=utf-8", (_FOLDER / "page.js").read_bytes()),
        "/docs/page.css": File("text/css; charset=utf-8", (_FOLDER / "page.css").read_bytes()),
        "/docs/swagger-ui-bundle.js": _zipped("text/javascript; charset=utf-8", "swagger-ui-bundle.js"),
        "/docs/swagger-ui.css": _zipped("text/css; charset=utf-8", "swagger-ui.css"),
    }


def _zipped(content_type: str, name: str) -> File:
    return File(content_type, (_VIEWER / f"{name}.gz").read_bytes(), zipped=True)


def headers(file: File, *, takes_gzip: bool, content_policy: str) -> dict[str, str]:
    """The headers of a file's answer."""
    found = {"Content-Type": file.content_type, "Cache-Control": _DAY if file.zipped else "no-store", "Vary": "Accept-Encoding"}
    if file.zipped and takes_gzip:
        found["Content-Encoding"] = "gzip"
    return {
        **found,
        "Content-Security-Policy": content_policy,
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
    }


def body(file: File, *, takes_gzip: bool) -> bytes:
    """A file's bytes, as the caller can read them."""
    return gzip.decompress(file.body) if file.zipped and not takes_gzip else file.body
