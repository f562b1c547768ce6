"""The members of a JSON object that stands for a message: which field each is, and which may not stand together."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message_factory import GetMessageClass

from adapters.codec.protobuf.scan import sound
from adapters.codec.protobuf.wrong import REQUIRED, WRONG, Renamed, WrongError, located
from gateway.codec import Value


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
                    raise WrongError("is no field", key)
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


def lacking(descriptor: Descriptor, needed: Sequence[FieldDescriptor]) -> Callable[[bytes], WrongError]:
    """The refusal of a message, whose wire form is given, for the first required field that it lacks."""
    kind = GetMessageClass(descriptor)
    names = {field.number: field.json_name for field in needed}

    def refusal(body: bytes) -> WrongError:
        present = {field.number for field, _ in kind.FromString(body).ListFields()}
        return WrongError(REQUIRED, next(name for number, name in names.items() if number not in present))

    return refusal
