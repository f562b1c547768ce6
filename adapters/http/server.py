"""The server that a backend asks over HTTP, as its config says where it is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated

from pydantic import AfterValidator
from yarl import URL

from adapters.http.request import CONTROL, HeaderName


def _sendable(value: Mapping[str, str]) -> Mapping[str, str]:
    if any(CONTROL.search(text) for text in value.values()):
        raise ValueError("a header's value cannot hold a control character")
    return value


FixedHeaders = Annotated[Mapping[HeaderName, str], AfterValidator(_sendable)]
"""Headers that every request has, as they are sent."""


def located(scheme: str) -> Callable[[str], str]:
    """A check of a server's URL, of this scheme or its secure twin."""

    def check(value: str) -> str:
        url = URL(value)
        if url.scheme not in {scheme, f"{scheme}s"} or not url.host:
            raise ValueError(f"must start with {scheme}:// or {scheme}s:// and a host")
        if url.user is not None or url.raw_query_string or url.raw_fragment:
            raise ValueError("holds a host and a path only; credentials belong under headers (authorization)")
        return value

    return check
