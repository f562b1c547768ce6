"""Body, path and query as one message, where a JSON Schema says what its properties are."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from gateway.codec import ABSENT, Given, Rule, Value
from gateway.errors import CallerError, FieldError, GatewayError, Reason
from gateway.jsontext import loads
from gateway.transcode import merge

_DECIMAL = re.compile(r"-?[0-9]{1,20}\Z")


class Binder:
    """Body, path and query as one JSON object; a text becomes what the schema has in its place."""

    def __init__(self, rule: Rule, converters: Mapping[str, Callable[[str], Value]]) -> None:
        self._rule = rule
        self._converters = converters

    def bind(self, value: Value, given: Given) -> Value:
        fields: dict[str, Value] = {name: self._converted(name, text) for name, text in given.params.items()}
        for name, text in self._asked(given):
            converted = self._converted(name, text)
            if name not in fields:
                fields[name] = converted
            elif isinstance(fields[name], list) and isinstance(converted, list) and name not in given.params:
                fields[name] += converted
            else:
                raise CallerError(Reason.MALFORMED, f"{name} is given twice", details=(FieldError(f"/{name}", "is given twice"),))
        if value is ABSENT:
            if self._rule.body == "*" and not fields:
                raise CallerError(Reason.MALFORMED, "the body is empty")
            return fields
        return merge(value if self._rule.body == "*" else {self._rule.body: value}, fields)

    def _asked(self, given: Given) -> Iterator[tuple[str, str]]:
        """The parameters of the query that are part of the message."""
        if self._rule.body == "*":
            return
        for name, text in given.query:
            if self._rule.unknown_query == "reject" or name in self._converters:
                yield name, text

    def _converted(self, name: str, text: str) -> Value:
        convert = self._converters.get(name)
        return text if convert is None else convert(text)


def converter(schema: Any) -> Callable[[str], Value]:
    """A text of path or query as the schema's type. What does not fit stays as it is, for the schema to say so."""
    said = schema.get("type") if isinstance(schema, dict) else None
    kinds = [said] if isinstance(said, str) else said if isinstance(said, list) else []
    if "array" in kinds:
        inner = converter(schema.get("items"))
        return lambda text: [inner(text)]
    known = [_READERS[kind] for kind in kinds if kind in _READERS]
    if "string" in kinds or not known:
        return str

    def convert(text: str) -> Value:
        return next((value for read in known if (value := read(text)) is not None), text)

    return convert


def _integer(text: str) -> int | None:
    """Decimal, as everywhere in a path or a query: 010 is 10."""
    return int(text) if _DECIMAL.match(text) else None


def _number(text: str) -> int | float | None:
    if (whole := _integer(text)) is not None:
        return whole
    try:
        value = loads(text.encode())
    except GatewayError:
        return None
    return value if isinstance(value, float) else None


_READERS: Mapping[str, Callable[[str], Value]] = {
    "boolean": {"true": True, "false": False}.get,
    "integer": _integer,
    "number": _number,
}
