"""What an expression can cost, told from its syntax tree when the config is loaded (google/api/expr/v1alpha1/syntax.proto).

CEL has no loops but its macros (`map`, `filter`, `all`, `exists`), each of which goes once over a list or a map. So what it costs
follows from how deep they stand in one another, from what they make, and from how long the lists and texts are that they meet.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

# The wire types of protobuf (encoding.html); the fields of Expr, and those of its kinds that hold further expressions.
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_CHECKED_EXPR, _CONST, _IDENT, _SELECT, _CALL, _LIST, _STRUCT, _COMPREHENSION = 4, 3, 4, 5, 6, 7, 8, 9
_OPERANDS = {_SELECT: {1}, _CALL: {1, 3}, _LIST: {1}}
_CALL_FUNCTION, _CALL_ARGS, _STRUCT_ENTRIES, _ENTRY_VALUES, _CONST_STRING = 2, 3, 2, {3, 4}, 6
_CONTINUES = 0x80

_FREE = frozenset(
    {
        *("_&&_", "_||_", "!_", "_?_:_", "_==_", "_!=_", "_<_", "_<=_", "_>_", "_>=_", "@in", "@not_strictly_false"),
        *("_[_]", "_[?_]", "_?._", "hasValue", "value", "or", "orValue", "int", "uint", "double", "bool", "type", "size"),
        *("contains", "startsWith", "endsWith", "matches", "indexOf", "lastIndexOf", "charAt"),
    }
)
"""Calls that make nothing that grows with what they are given."""
_INDEX = frozenset({"_[_]", "_[?_]"})
_MULTIPLY = frozenset({"replace", "join"})
"""Calls that write one text once for each place in another."""


@dataclass(slots=True)
class Cost:
    """The facts of one expression."""

    names: set[str] = field(default_factory=set)
    """Every name in it."""
    members: set[tuple[str, str]] = field(default_factory=set)
    """Every `name.field` and `name["field"]` in it, by name and field."""
    functions: set[str] = field(default_factory=set)
    nesting: int = 0
    """How deep its macros stand in one another."""
    adds: int = 0
    """Every `+` in it."""
    lengthened: int = 0
    """The most of them in what a macro goes over: lists can be put together to longer ones."""
    builds: bool = False
    """Whether one of them makes a list."""
    copies: int = 0
    """The calls inside of macros that may make a text or a list as long as any that they are given."""
    multiplies: set[str] = field(default_factory=set)
    """The calls that write a text as often as another has places for it, where that text is not written out."""


def cost_of(serialized: bytes) -> Cost:
    """The facts of a checked expression, packed in an Any as the library serializes it."""
    cost = Cost()
    checked = dict(_fields(serialized))[2]
    _expression(dict(_fields(checked))[_CHECKED_EXPR], 0, cost)
    return cost


def _fields(data: bytes) -> Iterator[tuple[int, bytes]]:
    """The fields of a protobuf message that are messages or texts themselves; numbers are passed over."""
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        kind = tag & 7
        if kind == _BYTES:
            length, at = _varint(data, at)
            yield tag >> 3, data[at : at + length]
            at += length
        elif kind == _VARINT:
            _, at = _varint(data, at)
        else:
            at += {_FIXED64: 8, _FIXED32: 4}[kind]


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & ~_CONTINUES) << shift
        if byte < _CONTINUES:
            return value, at
        shift += 7


def _expression(data: bytes, depth: int, cost: Cost) -> None:
    """Add what one node costs, `depth` macros deep. The parser lets them nest 32 deep at the most, and so this."""
    for kind, body in _fields(data):
        if kind == _IDENT:
            cost.names.update(name.decode() for _, name in _fields(body))
        elif kind == _COMPREHENSION:
            _comprehension(dict(_fields(body)), depth, cost)
        elif kind == _STRUCT:
            for number, entry in _fields(body):
                _operands(entry if number == _STRUCT_ENTRIES else b"", _ENTRY_VALUES, depth, cost)
        elif kind in _OPERANDS:
            if kind == _CALL:
                _call(list(_fields(body)), depth, cost)
            elif kind == _SELECT:
                _select(dict(_fields(body)), cost)
            _operands(body, _OPERANDS[kind], depth, cost)


def _operands(body: bytes, numbers: set[int], depth: int, cost: Cost) -> None:
    for number, part in _fields(body):
        if number in numbers:
            _expression(part, depth, cost)


def _select(parts: dict[int, bytes], cost: Cost) -> None:
    operand, name = parts[1], parts[2].decode()
    cost.members.update((ident, name) for ident in _idents(operand))


def _idents(expression: bytes) -> list[str]:
    """Its name, where it is one."""
    return [name.decode() for kind, body in _fields(expression) if kind == _IDENT for _, name in _fields(body)]


def _texts(expression: bytes) -> list[str]:
    """Its text, where it is one that is written out."""
    constants = (body for kind, body in _fields(expression) if kind == _CONST)
    return [text.decode() for body in constants for kind, text in _fields(body) if kind == _CONST_STRING]


def _call(parts: list[tuple[int, bytes]], depth: int, cost: Cost) -> None:
    function = next(part.decode() for number, part in parts if number == _CALL_FUNCTION)
    arguments = [part for number, part in parts if number == _CALL_ARGS]
    cost.functions.add(function)
    if function in _INDEX:
        cost.members.update((name, member) for name in _idents(arguments[0]) for member in _texts(arguments[1]))
    if function in _MULTIPLY and any(_kinds(part) & {_IDENT, _COMPREHENSION, *_OPERANDS} for part in arguments):
        cost.multiplies.add(function)
    # What a macro itself adds to the list that it makes is told by `builds`.
    own = function == "_+_" and "@result" in _idents(arguments[0])
    if own:
        return
    cost.adds += function == "_+_"
    if depth and function not in _FREE:
        cost.copies += 1


def _kinds(expression: bytes) -> set[int]:
    return {kind for kind, _ in _fields(expression)}


def _comprehension(parts: dict[int, bytes], depth: int, cost: Cost) -> None:
    iterated, start = parts[2], parts[4]
    before = cost.adds
    _expression(iterated, depth, cost)
    cost.lengthened = max(cost.lengthened, cost.adds - before)
    _expression(start, depth, cost)
    # A macro that only gives a value a name (optMap) goes over an empty list.
    loops = not any(kind == _LIST and not body for kind, body in _fields(iterated))
    inner = depth + 1 if loops else depth
    cost.nesting = max(cost.nesting, inner)
    cost.builds |= loops and bool(_kinds(start) & {_LIST, _STRUCT})
    for number in (5, 6, 7):  # loop_condition, loop_step, result
        _expression(parts[number], inner, cost)
