"""The members of a JSON object that stands for a message: which field each is, and which may not stand together."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from google.protobuf.descriptor import FieldDescriptor

from adapters.codec.protobuf.wrong import REQUIRED, WRONG, Renamed, WrongError, located, unknown
from gateway.codec import Value

_INT64 = range(-(2**63), 2**64)


def members(value: Value) -> Mapping[str, Value]:
    """The members of a JSON object, which the scanner gives as pairs. Any other value is refused."""
    if type(value) is tuple:
        found = dict(value)
        if len(found) < len(value):
            unique(value)
        return found
    if isinstance(value, dict):
        return value
    raise WrongError("is not an object")


def unique(pairs: tuple[tuple[str, Value], ...]) -> None:
    """Refuse the name that stands twice."""
    seen: set[str] = set()
    for name, _ in pairs:
        if name in seen:
            raise WrongError("stands twice in one object", name)
        seen.add(name)


def arranging(fields: Sequence[FieldDescriptor], *, lenient: bool) -> Callable[[Mapping[str, Value]], Renamed]:
    """What puts members under their fields' JSON names, and leaves out (`lenient`) or refuses what is no field's."""
    names = {field.name: field.json_name for field in fields} | {field.json_name: field.json_name for field in fields}

    def arranged(value: Mapping[str, Value]) -> Renamed:
        found = Renamed()
        for key, part in value.items():
            name = names.get(key)
            if name is None:
                if not isinstance(key, str):
                    raise WrongError("has a key that is not a string")
                if key[:1] == "[" and key[-1:] == "]":
                    raise WrongError("is an extension, and none is taken", key)
                if not lenient:
                    raise unknown(key)
                try:
                    key.encode()
                    sound(part)
                except WRONG as error:
                    raise located(error, None, key, None) from None
            elif name in found:
                raise WrongError("is given by both of its names", key)
            else:
                found[name] = part
                found.written[name] = key
        return found

    return arranged


def beside(other: str) -> None:
    """Refuse a second member of a oneof."""
    raise WrongError(f"stands beside {other}, and there may be one of them")


def twice(key: Value, seen: set[Value]) -> Value:
    """The key of a map, where it is the first of its value."""
    if key in seen:
        raise WrongError("is a key that stands twice")
    seen.add(key)
    return key


def lacking(names: Sequence[str]) -> Callable[..., WrongError]:
    """The refusal of a message for the first required field of `names` that has no bytes."""

    def refusal(*written: bytes) -> WrongError:
        return WrongError(REQUIRED, next(name for name, body in zip(names, written, strict=True) if not body))

    return refusal


def sound(value: Value) -> None:
    """Raise WrongError for what no reader looks at and is not to be let through all the same. `value` is not too deep."""
    kind = type(value)
    if kind is str:
        value.encode()
    elif kind is int:
        if value not in _INT64:
            raise WrongError("is an integer beyond 64 bits")
    elif isinstance(value, float):
        if value - value != 0:
            raise WrongError("is beyond what a double holds")
    elif kind is list:
        for part in value:
            sound(part)
    elif value is not None and kind is not bool:
        for name, part in members(value).items():
            name.encode()
            sound(part)
