"""Expressions in CEL, compiled when the config is loaded: the one place that knows the library.

An expression sees the values that it is given by name and the functions of CEL's library, and nothing else: no Python, no file,
no clock. What it may cost is bounded: by its text when loading, and by what it is given when serving.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Collection, Mapping
from datetime import datetime, timedelta
from functools import lru_cache
from math import isfinite
from types import MappingProxyType
from typing import Any, NoReturn

from cel_expr_python import cel

from gateway.codec import ABSENT, Value
from gateway.cost import Cost, cost_of
from gateway.errors import CallerError, FieldError, Reason
from gateway.message import compact

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
MAX_RESULT = 4 << 20
"""Bytes of a result, about."""

NO_MEMBERS: Mapping[str, Collection[str]] = MappingProxyType({})

_ITEM = 8  # what a number, a bracket or a comma counts
_TEXTS = "type_name: map, params: [{type_name: string}, {type_name: string}]"
_TYPES = dict.fromkeys(("params", "query", "headers", "call"), _TEXTS)
"""Names whose values are maps from text to text, whoever gives them; so what they cannot be used for is told when loading."""
_EXTENSIONS = "[{name: strings}, {name: optional}, {name: math}, {name: encoders}]"

_PLACE = re.compile(r"<input>:(\d+):(\d+): (.*)")
_OPERATOR = re.compile(r"'@?_?([^_' ]+)_?'")
_UNDECLARED = re.compile(r"(undeclared reference to '\w+)[^']*'")
_KEY = re.compile(r'Key not found in map : "(.*)"', re.DOTALL)
# What the library says, and what the caller is told: its own words would name types and repeat the input.
_FAILURES = (
    ("Index error", "a list is shorter than it needs"),
    ("No matching overloads", "a value is of another type than it needs"),
    ("divide by zero", "it divides by zero"),
    ("modulus by zero", "it divides by zero"),
    ("OUT_OF_RANGE", "a number is out of range"),
    ("cannot convert", "a text is not what it needs"),
)


class ExpressionError(ValueError):
    """An expression that cannot work, and why."""


class Scope:
    """The values that expressions see, by name. They are measured, and read by the library, once for all expressions."""

    __slots__ = ("_activations", "_extent", "values")

    def __init__(self, values: Mapping[str, Value]) -> None:
        """The values are what JSON can say. CallerError for what no expression can be given."""
        self.values = values
        self._activations: dict[int, Any] = {}
        self._extent = _extent(values)

    def activation(self, environment: Any) -> Any:
        """The values as one language knows them."""
        found = self._activations.get(id(environment))
        if found is None:
            found = self._activations[id(environment)] = environment.Activation(self.values)
        return found

    def longest(self, *, texts: bool) -> int:
        """How many items the longest list or map has, or characters the longest text if those count too."""
        items, text = self._extent
        return max(items, text) if texts else items

    @property
    def text(self) -> int:
        """How many characters the longest text has."""
        return self._extent[1]


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
                _fail("a text has a NUL in it")
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
        "_nesting",
        "_optional",
        "_program",
        "_splits",
        "kind",
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
        self._nesting = cost.nesting
        self._copies = cost.copies
        self._builds = cost.builds
        self._splits = "split" in cost.functions
        # The library cannot hand out an optional value; an entry of a map that is there or not says the same.
        self.kind = program.return_type().name().partition("<")[0]
        self._optional = self.kind == "optional_type"
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
        self._afford(scope)
        try:
            result = self._program.eval(scope.activation(self._environment))
        except RuntimeError as error:
            if "Iteration budget" in str(error):
                _refuse(f"an expression goes over more than {MAX_ITERATIONS} items", error)
            raise
        value = _plain(result, [MAX_RESULT], self.text)
        if not self._optional:
            return value
        return value.get("", ABSENT)

    def _afford(self, scope: Scope) -> None:
        """Refuse what the library would not stop at."""
        if not self._nesting:
            return
        length = scope.longest(texts=self._splits)
        if self._builds and length > MAX_BUILT:
            _refuse(f"an expression makes a list out of more than {MAX_BUILT} items")
        if self._copies and min(length**self._nesting, MAX_ITERATIONS) * scope.text * self._copies > MAX_COPIED:
            _refuse(f"an expression may make more than {MAX_COPIED >> 20} MiB out of it")


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


def _refuse(why: str, cause: BaseException | None = None) -> NoReturn:
    raise CallerError(Reason.TOO_LARGE, f"the message is too large to be worked on: {why}") from cause


def _fail(why: str) -> NoReturn:
    raise CallerError(Reason.MALFORMED, f"the message is not what this route needs: {why}", details=(FieldError("", why),))


def _failure(status: str, text: str) -> NoReturn:
    """An evaluation that ended in an error. A name is told only where the expression itself says it: nothing of the input is."""
    key = _KEY.search(status)
    if key is not None:
        _fail(f"{key[1]} is missing" if key[1] in text else "a field is missing")
    _fail(next((why for what, why in _FAILURES if what in status), "a value is not what it needs"))


def _plain(value: Any, left: list[int], text: str) -> Value:
    """A result as JSON has it (CEL's own conversion: bytes in base64, times as RFC 3339). What it makes is bounded as it is made.

    Never `value.value()` of a null: the library gives away a reference to None that it does not own, and Python 3.11 counts them.
    """
    kind = value.type().name().partition("<")[0]
    left[0] -= _ITEM
    if left[0] < 0:
        _refuse(f"a result has more than {MAX_RESULT >> 20} MiB")
    if kind == "NULL":
        return None
    try:
        plain = value.value()
    except (SystemError, TypeError):
        _fail("an optional value stands where a value is needed: end it with orValue")
    if kind in {"BOOL", "INT", "UINT"}:
        return plain
    if kind == "LIST":
        return [_plain(item, left, text) for item in plain]
    if kind == "MAP":
        # The library keeps no order: made here, so that the same message is the same bytes.
        return {_key(key, left): _plain(plain[key], left, text) for key in sorted(plain, key=_sorting)}
    if kind == "ERROR":
        _failure(plain, text)
    return _scalar(kind, plain, left)


def _scalar(kind: str, plain: Any, left: list[int]) -> Value:
    if kind in {"STRING", "BYTES"}:
        left[0] -= len(plain)
        return plain if kind == "STRING" else b64encode(plain).decode()
    if kind == "DOUBLE":
        return plain if isfinite(plain) else _fail("a number is beyond what JSON can say")
    if kind == "TIMESTAMP":
        return _timestamp(plain)
    if kind == "DURATION":
        return _duration(plain)
    return _fail("a result is nothing that JSON can say")


def _sorting(key: object) -> tuple[str, object]:
    return type(key).__name__, key


def _key(key: object, left: list[int]) -> str:
    name = key if isinstance(key, str) else str(key).lower()  # a bool's is true or false
    left[0] -= len(name)
    return name


def _timestamp(value: datetime) -> str:
    return value.isoformat().replace("+00:00", "Z")


def _duration(value: timedelta) -> str:
    """As in proto3 JSON: seconds with no, three or six digits behind the point."""
    micros = value // timedelta(microseconds=1)
    seconds, rest = divmod(abs(micros), 1_000_000)
    fraction = f".{rest:06d}".removesuffix("000") if rest else ""
    return f"{'-' if micros < 0 else ''}{seconds}{fraction}s"
