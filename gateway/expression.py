"""Expressions in CEL, compiled when the config is loaded: the one place that knows the library.

An expression sees the values that it is given by name and the functions of CEL's library, and nothing else: no Python, no file,
no clock. What it may cost is bounded: by its text when loading, and by what it is given when serving.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Any

from cel_expr_python import cel

from gateway.codec import ABSENT, Value
from gateway.cost import Cost, cost_of
from gateway.message import compact
from gateway.result import fail, plain, refuse

MAX_TEXT = 4096
"""Characters of one expression."""
MAX_NESTING = 2
"""How deep macros (`map`, `filter`, `all`, `exists`) may stand inside one another."""
MAX_BUILT = 1000
"""Items that `map` and `filter` may go over. To the library each costs as much as there are before it: 1,000 are 18 ms, 10,000
were 5 s and 1.6 GiB."""
MAX_ITERATIONS = 10_000
"""What all macros of one evaluation may go over together: the library's own bound."""
MAX_COPIED = 64 << 20
"""Bytes of text that macros may make of what they are given."""

NO_MEMBERS: Mapping[str, Collection[str]] = MappingProxyType({})

_TEXTS = "type_name: map, params: [{type_name: string}, {type_name: string}]"
_TYPES = dict.fromkeys(("params", "query", "headers", "call"), _TEXTS)
"""Names whose values are maps from text to text, whoever gives them; so what they cannot be used for is told when loading."""
_EXTENSIONS = "[{name: strings}, {name: optional}, {name: math}, {name: encoders}]"

_PLACE = re.compile(r"<input>:(\d+):(\d+): (.*)")
_OPERATOR = re.compile(r"'@?_?([^_' ]+)_?'")
_FETCH = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*", re.ASCII)
_UNDECLARED = re.compile(r"(undeclared reference to '\w+)[^']*'")


class ExpressionError(ValueError):
    """An expression that cannot work, and why."""


class Scope:
    """The values that expressions see, by name. They are measured, and read by the library, once for all expressions."""

    __slots__ = ("_activations", "_extent", "_outer", "_own", "values")

    def __init__(self, values: Mapping[str, Value], outer: Scope | None = None) -> None:
        """The values are what JSON can say. `outer`: those that are known beside them, and measured by themselves."""
        self.values: Mapping[str, Value] = values if outer is None else {**outer.values, **values}
        self._own = values
        self._outer = outer
        self._activations: dict[int, Any] = {}
        self._extent: tuple[int, int] | None = None

    def activation(self, environment: Any) -> Any:
        """The values as one language knows them."""
        found = self._activations.get(id(environment))
        if found is None:
            found = self._activations[id(environment)] = environment.Activation(self.values)
        return found

    def extent(self) -> tuple[int, int]:
        """How many items the longest list or map has at the most, and characters the longest text. CallerError for what no
        expression can be given.
        """
        if self._extent is None:
            items, text = _extent(self._own)
            if self._outer is not None:
                more, longer = self._outer.extent()
                items, text = max(items, more), max(text, longer)
            self._extent = items, text
        return self._extent


def _extent(values: Mapping[str, Value]) -> tuple[int, int]:
    """How long the longest list or map is, and the longest text, or more: for few, that there are not too many is enough."""
    text = compact(values)
    items = text.count(",") + 1
    if (items <= MAX_BUILT and len(text) <= MAX_BUILT) and "\\u0000" not in text:
        return items, len(text)
    return _measured(values)


def _measured(values: Mapping[str, Value]) -> tuple[int, int]:
    longest = text = 0
    waiting: list[Value] = [values]
    while waiting:
        value = waiting.pop()
        if isinstance(value, str):
            if "\0" in value:  # the library would end it there, without a word
                fail("a text has a NUL in it")
            text = max(text, len(value))
        elif isinstance(value, dict):
            longest = max(longest, len(value))
            waiting += value
            waiting += value.values()
        elif isinstance(value, list):
            longest = max(longest, len(value))
            waiting += value
    return longest, text


@lru_cache(maxsize=256)
def _environment(names: tuple[str, ...]) -> Any:
    """CEL with its libraries for text, optional values, numbers and base64, and with these names."""
    variables = ", ".join(f"{{name: {name}, {_TYPES.get(name, 'type_name: dyn')}}}" for name in names)
    return cel.NewEnv(config=cel.NewEnvConfigFromYaml(f"extensions: {_EXTENSIONS}\nvariables: [{variables}]\n"))


class Expression:
    """One expression over the values of `names`. Two of one text over the same names are equal."""

    __slots__ = (
        "_builds",
        "_copies",
        "_environment",
        "_lengthened",
        "_nesting",
        "_optional",
        "_path",
        "_program",
        "_splits",
        "kind",
        "members",
        "names",
        "text",
        "uses",
    )

    def __init__(self, text: str, names: tuple[str, ...], members: Mapping[str, Collection[str]] = NO_MEMBERS) -> None:
        """`members`: what `name.field` may say, of names of which that is known. Raises ExpressionError, with the place where
        there is one.
        """
        if len(text) > MAX_TEXT:
            raise ExpressionError(f"an expression has {MAX_TEXT} characters at the most")
        self.text = text
        self.names = names
        self._environment = _environment(names)
        program = self._compiled(text)
        cost = cost_of(program.serialize())
        if refusal := _refusal(cost, members):
            raise ExpressionError(f"{text!r}: {refusal}")
        self.uses = frozenset(cost.names & {*names})
        self.members = frozenset(cost.members)
        self._nesting = cost.nesting
        self._copies = cost.copies
        self._lengthened = 1 + cost.lengthened
        self._builds = cost.builds
        self._splits = "split" in cost.functions
        # The library cannot hand out an optional value; an entry of a map that is there or not says the same.
        self.kind = program.return_type().name().partition("<")[0]
        self._optional = self.kind == "optional_type"
        # Most expressions only fetch a value that is there, for which there is a shorter way to the same.
        self._path = tuple(text.split(".")) if _FETCH.fullmatch(text) and text.partition(".")[0] in names else None
        self._program = self._compiled(f'{{?"": ({text}\n)}}') if self._optional else program

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Expression) and (self.text, self.names) == (other.text, other.names)

    def __hash__(self) -> int:
        return hash((self.text, self.names))

    def _compiled(self, text: str) -> Any:
        try:
            return self._environment.compile(text)
        except (RuntimeError, TypeError) as error:  # TypeError: half of a surrogate pair, which is no text to the library
            raise ExpressionError(f"{self.text!r}: {_told(str(error), self.names)}") from error

    def evaluate(self, given: Mapping[str, Value] | Scope) -> Value:
        """The plain value, ABSENT where it is an optional that has none. CallerError where it cannot be worked out of what is
        given: MALFORMED, or TOO_LARGE where that would cost too much.
        """
        scope = given if isinstance(given, Scope) else Scope(given)
        if self._path is not None and (found := _fetched(scope.values, self._path)) is not ABSENT:
            return found
        self._afford(*scope.extent())
        try:
            result = self._program.eval(scope.activation(self._environment))
        except RuntimeError as error:
            if "Iteration budget" in str(error):
                refuse(f"an expression goes over more than {MAX_ITERATIONS} items", error)
            if "construction from null" in str(error):  # half of a surrogate pair, as in a header that is not UTF-8
                fail("a text in it has a character that is none", error)
            raise
        value = plain(result, self.text)
        if not self._optional:
            return value
        return value.get("", ABSENT)

    def _afford(self, items: int, text: int) -> None:
        """Refuse what the library would not stop at."""
        if not self._nesting:
            return
        length = (max(items, text) if self._splits else items) * self._lengthened
        if self._builds and length > MAX_BUILT:
            refuse(f"an expression makes a list out of more than {MAX_BUILT} items")
        if self._copies and min(length**self._nesting, MAX_ITERATIONS) * text * self._copies > MAX_COPIED:
            refuse(f"an expression may make more than {MAX_COPIED >> 20} MiB out of it")


def _fetched(values: Mapping[str, Value], path: tuple[str, ...]) -> Value:
    value: Value = values
    for step in path:
        if not isinstance(value, dict) or step not in value:
            return ABSENT
        value = value[step]
    return value


def _refusal(cost: Cost, members: Mapping[str, Collection[str]]) -> str | None:
    """Why an expression may not be, by what it costs."""
    if cost.nesting > MAX_NESTING:
        return f"macros (map, filter, all, exists) stand {MAX_NESTING} deep in one another at the most"
    for function in sorted(cost.multiplies):
        return f"what {function} writes must be written out in the expression, as in {_EXAMPLES[function]}"
    for name, member in sorted(cost.members):
        if name in members and member not in members[name]:
            return f"{name} has no {member}; it has {', '.join(members[name])}"
    return None


_EXAMPLES = {"replace": 'body.name.replace("-", " ")', "join": 'body.tags.join(", ")'}


def _told(text: str, names: tuple[str, ...]) -> str:
    """What the compiler has to say, in a line."""
    if "recursion" in text:
        return "is nested too deep"
    found = _PLACE.search(text)
    if found is None:
        return "is no expression"
    line, column, what = found.groups()
    what = what.replace(" (in container '')", "").replace("'<EOF>'", "the end").partition(" expecting {")[0]
    what = _UNDECLARED.sub(r"\1'", what)
    what = _OPERATOR.sub(r"'\1'", what.removeprefix("Syntax error: "))
    place = f"column {column}" if line == "1" else f"line {line}, column {column}"
    hint = f"; there are {', '.join(names)}" if what.startswith("undeclared") else ""
    return f"{place}: {what}{hint}"
