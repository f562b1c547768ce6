"""`polygate explain`."""

from __future__ import annotations

import argparse
from pathlib import Path

from gateway import explain
from gateway.command import OK, USAGE, WRONG, complain, say, say_json
from gateway.message import Headers
from gateway.plan import plan


def explain_call(options: argparse.Namespace) -> int:
    """Show which route takes a call, why not the others, and what the call meets on its way."""
    try:
        explain.protocol_of(options.call)
    except ValueError as error:
        complain(f"polygate explain: {error}")
        return USAGE
    try:
        body, reply = _content(options.body), _content(options.reply)
        headers = Headers(_header(text) for text in options.header or ())
    except ValueError as error:
        complain(f"polygate explain: {error}")
        return USAGE
    told = explain.explain(plan(options.config), options.call, body, headers=headers, reply=reply)
    if options.json:
        say_json(told)
    else:
        say(explain.text(told))
    return OK if told["route"] is not None and not told.keys() & {"refused", "failed"} else WRONG


def _content(text: str | None) -> str | None:
    """What is said, or what is in the file that is named after @. Raises ValueError."""
    if text is None or not text.startswith("@"):
        return text
    try:
        return Path(text[1:]).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = (error.strerror or "").lower() if isinstance(error, OSError) else "it is not UTF-8"
        raise ValueError(f"{text[1:]} cannot be read: {why}") from error


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon or not name.strip():
        raise ValueError(f"{text!r} is no header: write NAME: VALUE")
    return name.strip().lower(), value.strip()
