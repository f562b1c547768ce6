"""What an HTTP backend is asked: method, URL and headers of a request, compiled from a target's templates."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Annotated
from urllib.parse import quote

from multidict import CIMultiDict
from pydantic import AfterValidator
from yarl import URL

from gateway.errors import CallerError, Reason
from gateway.exchange import Call
from gateway.message import Message
from gateway.template import Template, text_of

Fields = Callable[[], Mapping[str, object]]

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
BODILESS = frozenset({"GET", "HEAD", "DELETE", "OPTIONS"})
SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
"""RFC 9110 9.2.1."""

CALL = re.compile(rf"(?:{'|'.join(METHODS)}) /\S*")
_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_VARIABLE = re.compile(r"(\{[^{}]*\})")
_REST = "=**"

# RFC 9110 7.6.1, and what the client library writes itself: a copy of the caller's would contradict it.
NEVER_SENT = frozenset(
    (
        *("connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection", "te", "trailer"),
        *("transfer-encoding", "upgrade", "expect", "host", "content-length", "content-type", "content-encoding"),
    )
)


def header_name(name: str) -> str:
    """A header name that may be sent, in lower case. Raises ValueError."""
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name!r} is no header name")
    if name.lower() in NEVER_SENT:
        raise ValueError(f"{name} belongs to the connection or to the body, and is never set by hand")
    return name.lower()


HeaderName = Annotated[str, AfterValidator(header_name)]


def _template(source: str) -> str:
    """A text that is a template. Raises TemplateError."""
    Template(source)
    return source


TemplateText = Annotated[str, AfterValidator(_template)]

FORWARD = ("accept-language", "traceparent", "tracestate", "x-request-id")
BACK = (
    *("allow", "cache-control", "content-disposition", "content-language", "deprecation", "etag", "expires", "last-modified"),
    *("link", "location", "retry-after", "sunset", "vary", "www-authenticate"),
)


def path_templates(path: str) -> list[str]:
    """The templates in a path, as `Template` reads them: `{name=**}` is `{name}`."""
    return [part.replace(_REST, "") for part in _VARIABLE.split(path)[1::2]]


class Path:
    """A path template. A variable is one segment, percent-encoded; `{name=**}` may be several."""

    def __init__(self, source: str) -> None:
        """Raises TemplateError."""
        Template(source.replace(_REST, ""))
        parts = _VARIABLE.split(source)
        self._literals = [quote(part, safe="/%:@!$&'()*+,;=-._~") for part in parts[::2]]
        self._variables = [(Template(part.replace(_REST, "")), part.endswith(_REST + "}")) for part in parts[1::2]]

    def render(self, params: Mapping[str, str], fields: Fields) -> str:
        """The path. CallerError for a variable that would change which resource the template names."""
        out = self._literals[0]
        for (template, rest), literal in zip(self._variables, self._literals[1:], strict=True):
            value = template.render(params, fields)
            if not value:
                raise CallerError(Reason.MALFORMED, f"{template.names[0]} must not be empty")
            # A caller's %2F came through the router as it was (RFC 3986 2.2: it is not the same as "/").
            encoded = quote(value, safe="/").replace("%252F", "%2F").replace("%252f", "%2F") if rest else quote(value, safe="")
            out += encoded + literal
        # A server takes dot segments away (RFC 3986 5.2.4), and with them the segments that the template wrote.
        if "/." in out and any(segment in {".", ".."} for segment in out.split("/")):
            raise CallerError(Reason.MALFORMED, "a path segment must not be . or ..")
        return out


class Query:
    """Query parameters. One that is a single variable is left out where the field is absent, and repeated where it is a list."""

    def __init__(self, templates: Mapping[str, str]) -> None:
        """Raises TemplateError."""
        self._parameters = [
            (quote(name, safe=""), template := Template(source), _sole(template)) for name, source in templates.items()
        ]

    def render(self, params: Mapping[str, str], fields: Fields) -> str:
        """`?name=value&...`, or nothing."""
        pairs = [f"{name}={quote(value, safe='')}" for name, value in self._values(params, fields)]
        return "?" + "&".join(pairs) if pairs else ""

    def _values(self, params: Mapping[str, str], fields: Fields) -> Iterable[tuple[str, str]]:
        for name, template, sole in self._parameters:
            if sole is None or sole in params:
                yield name, template.render(params, fields)
                continue
            value = fields().get(sole)
            if value is None:
                continue
            for item in value if isinstance(value, list | tuple) else (value,):
                yield name, text_of(item)


def _sole(template: Template) -> str | None:
    """The variable of a template that is nothing but one."""
    names = template.names
    return names[0] if len(names) == 1 and template.source == f"{{{names[0]}}}" else None


class Outgoing:
    """A target's requests, compiled when the config is loaded."""

    def __init__(
        self,
        base: URL,
        call: str,
        query: Mapping[str, str],
        headers: tuple[Mapping[str, str], Mapping[str, str]],
        forward: Iterable[str],
    ) -> None:
        """`headers` are the fixed ones, and the templates of those that change. Raises TemplateError."""
        self.method, _, path = call.partition(" ")
        self._base = base
        self._origin = str(base.origin())
        self._root = base.raw_path.rstrip("/")
        self._path = Path(path)
        self._query = Query(query) if query else None
        self._fixed = CIMultiDict(headers[0])
        self._changing = [(name, Template(source)) for name, source in headers[1].items()]
        self._forward = frozenset(forward) - {"x-request-id"}
        self._identified = "x-request-id" in forward

    def url(self, call: Call, fields: Fields) -> URL:
        """Where to. CallerError where the message lacks a field of a template."""
        path = self._root + self._path.render(call.params, fields)
        query = self._query.render(call.params, fields) if self._query else ""
        # A third of the price of reading the whole URL again.
        return self._base.with_path(path, encoded=True) if not query else URL(f"{self._origin}{path}{query}", encoded=True)

    def headers(self, call: Call, fields: Fields) -> CIMultiDict[str]:
        """With what. CallerError for a value that no header can hold."""
        headers = self._fixed.copy()
        for name, value in call.headers:
            if name in self._forward:
                _put(headers, self._fixed, name, value)
        for name, template in self._changing:
            _put(headers, self._fixed, name, template.render(call.params, fields))
        if self._identified:
            headers["x-request-id"] = call.id
        return headers


def _put(headers: CIMultiDict[str], fixed: CIMultiDict[str], name: str, value: str) -> None:
    """A caller's value takes the place of a fixed one; two of a caller stand side by side."""
    if CONTROL.search(value):
        raise CallerError(Reason.MALFORMED, f"the value for the header {name} holds a control character")
    if name in fixed:
        headers[name] = value
    else:
        headers.add(name, value)


def opener(fields: Callable[[bytes], Mapping[str, object]], message: Message) -> Fields:
    """A message's fields, read at the first ask and kept."""
    return _Once(partial(fields, message.body))


class _Once:
    __slots__ = ("_read", "_value")

    def __init__(self, read: Fields) -> None:
        self._read = read
        self._value: Mapping[str, object] | None = None

    def __call__(self) -> Mapping[str, object]:
        if self._value is None:
            self._value = self._read()
        return self._value
