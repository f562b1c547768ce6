"""Path patterns: the template grammar of google/api/http.proto, the same for every protocol.

    pattern  = "/" segment { "/" segment } [ ":" verb ]
    segment  = "*" | "**" | literal | "{" field.path [ "=" segments ] "}"

`*` and `{x}` are one segment; `**` is any number of them, none too, and stands last. "/" alone is the root.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple, NoReturn
from urllib.parse import quote, unquote_to_bytes

from gateway.errors import CallerError, Reason

_FIELD_PATH = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z_][A-Za-z0-9_]*)*\Z")
_LITERAL = re.compile(r"(?:[A-Za-z0-9\-._~!$&'()+,;=:@]|%[0-9A-Fa-f]{2})+\Z")
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_VARIABLE = re.compile(r"\{[^{}]*\}\Z")
_SLASH = re.compile(r"/(?![^{}]*\})")  # one that is not inside braces
_NESTED = re.compile(r"\{[^{}]*\{")
_VERB = re.compile(r":([^/{}:]*)\Z")
_SLASH_ESCAPE = re.compile(r"%(?=2[Ff])")


class PatternError(ValueError):
    """A path pattern that cannot work, with the reason."""


class Segment(NamedTuple):
    """One segment of a pattern; a literal's text is decoded."""

    kind: Literal["literal", "any", "rest"]
    text: str = ""


class Variable(NamedTuple):
    """Which segments of a path a variable is: `stop` is None where it goes on to the end."""

    name: str
    start: int
    stop: int | None

    @property
    def single(self) -> bool:
        """Whether it is one segment, whose every escape is decoded."""
        return self.stop == self.start + 1


@dataclass(frozen=True, slots=True)
class Pattern:
    """A path pattern, parsed."""

    segments: tuple[Segment, ...]
    variables: tuple[Variable, ...] = ()
    verb: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        """The field paths that its variables bind, in order."""
        return tuple(variable.name for variable in self.variables)

    def path(self, value: Callable[[str], str | None]) -> str:
        """A path that it takes: `value` says what a variable is, and what does not fit the variable is replaced."""
        texts = [segment.text if segment.kind == "literal" else "x" for segment in self.segments]
        for name, start, stop in reversed(self.variables):
            own = self.segments[start:stop]
            given = value(name)
            parts = [] if given is None else [given] if len(own) == 1 and own[0].kind != "rest" else given.split("/")
            texts[start:stop] = parts if given is not None and _fits(own, parts) else [part.text or name for part in own]
        verb = f":{quote(self.verb, safe='')}" if self.verb else ""
        return "/" + "/".join(quote(text, safe="") for text in texts) + verb


ROOT = Pattern((Segment("literal"),))
"""The path with nothing in it, "/"."""


def _fits(segments: tuple[Segment, ...], parts: list[str]) -> bool:
    fixed = [segment for segment in segments if segment.kind != "rest"]
    long = len(parts) == len(fixed) if len(fixed) == len(segments) else len(parts) >= len(fixed)
    same = all(segment.kind != "literal" or segment.text == part for segment, part in zip(fixed, parts, strict=False))
    return long and same and all(part not in {"", ".", ".."} for part in parts)


def pattern_of(text: str) -> Pattern:
    """A pattern, parsed. Raises PatternError with the reason."""
    if not text.startswith("/"):
        _refuse(text, "a path starts with /")
    if text == "/":
        return ROOT
    if _NESTED.search(text):
        _refuse(text, "a variable stands inside another")
    body, verb = text, ""
    if (found := _VERB.search(text)) is not None:
        body, verb = text[: found.start()], found[1]
        verb = _literal(text, verb) if verb else _refuse(text, "an empty verb after the colon")
    segments: list[Segment] = []
    variables: list[Variable] = []
    for piece in _SLASH.split(body[1:]):
        if not _VARIABLE.match(piece):
            segments.append(_segment(text, piece))
            continue
        name, equals, inner = piece[1:-1].partition("=")
        if not _FIELD_PATH.match(name) or (equals and not inner):
            _refuse(text, "a variable is written {name}, {name=*} or {name=segments}, its name a field or a field.path")
        parts = [_segment(text, part) for part in (inner or "*").split("/")]
        stop = None if parts[-1].kind == "rest" else len(segments) + len(parts)
        variables.append(Variable(name, len(segments), stop))
        segments += parts
    if any(segment.kind == "rest" for segment in segments[:-1]):
        _refuse(text, "** must be last")
    if len({variable.name for variable in variables}) < len(variables):
        _refuse(text, "a variable stands in it twice")
    return Pattern(tuple(segments), tuple(variables), verb)


def _segment(pattern: str, text: str) -> Segment:
    if text in {"*", "**"}:
        return Segment("rest" if text == "**" else "any")
    if not text:
        _refuse(pattern, "an empty segment (a path neither has // in it nor ends in /)")
    return Segment("literal", _literal(pattern, text))


def _literal(pattern: str, text: str) -> str:
    if not _LITERAL.match(text):
        _refuse(pattern, _flaw(text))
    try:
        return decode(text)
    except CallerError as error:
        _refuse(pattern, error.message)


def _flaw(text: str) -> str:
    """Why a text is no literal."""
    if "{" in text or "}" in text:
        return "a variable is a whole segment, and its braces close"
    if "*" in text:
        return "* and ** are whole segments"
    if "?" in text:
        return "a query string is no part of a path"
    if any(char.isspace() for char in text):
        return "white space"
    if _BAD_ESCAPE.search(text):
        return "a malformed %-escape"
    return "a character that a path cannot hold (write it %-escaped)"


def _refuse(pattern: str, why: str) -> NoReturn:
    raise PatternError(f"{pattern!r}: {why}")


def decode(segment: str) -> str:
    """One path segment, percent-decoded: never "+", always UTF-8. Raises CallerError(MALFORMED)."""
    if "%" not in segment:
        return segment
    if _BAD_ESCAPE.search(segment):
        raise CallerError(Reason.MALFORMED, "the path has a malformed %-escape")
    try:
        text = unquote_to_bytes(segment).decode()
    except UnicodeDecodeError as error:
        raise CallerError(Reason.MALFORMED, "the path is not UTF-8") from error
    if "\0" in text:
        raise CallerError(Reason.MALFORMED, "the path has a NUL in it")
    return text


def decode_but_slashes(segment: str) -> str:
    """Decoded all but `%2F`, which stays in the case it came in, so that it can be told from "/"."""
    return "%".join(decode(part) for part in _SLASH_ESCAPE.split(segment)) if "%" in segment else segment
