"""The JSON Schemas of single protobuf values: numbers, strings, bytes, enums, and the keys of maps."""

from __future__ import annotations

from google.protobuf.descriptor import EnumDescriptor, FieldDescriptor

from gateway.schema import Schema

BASE64 = "^([A-Za-z0-9+/_-]{4})*([A-Za-z0-9+/_-]{2}(==)?|[A-Za-z0-9+/_-]{3}=?)?$"
STANDARD_BASE64 = "^([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$"
_FLOAT_MAX = 3.4028234663852886e38
# A number in a string: of so many digits that it is sure to be in range.
_DIGITS = {"int32": 9, "uint32": 9, "int64": 18, "uint64": 19}
_WORDS = "^(NaN|-?Infinity)$"
_NUMBER = r"^(NaN|-?Infinity|-?([0-9]{1,15}\.?[0-9]{0,15}|\.[0-9]{1,15})([eE][-+]?[0-9])?)$"
_RANGES = {
    "int32": (-(2**31), 2**31 - 1),
    "uint32": (0, 2**32 - 1),
    "int64": (-(2**63), 2**63 - 1),
    "uint64": (0, 2**64 - 1),
}
_INTEGERS = {
    FieldDescriptor.CPPTYPE_INT32: "int32",
    FieldDescriptor.CPPTYPE_UINT32: "uint32",
    FieldDescriptor.CPPTYPE_INT64: "int64",
    FieldDescriptor.CPPTYPE_UINT64: "uint64",
}
_FLOATS = {FieldDescriptor.CPPTYPE_FLOAT: "float", FieldDescriptor.CPPTYPE_DOUBLE: "double"}


def _integer(kind: str) -> Schema:
    low, high = _RANGES[kind]
    return {"type": "integer", "format": kind, "minimum": low, "maximum": high}


def _written(kind: str) -> str:
    sign = "" if kind.startswith("u") else "-?"
    return rf"^{sign}0*[0-9]{{1,{_DIGITS[kind]}}}(\.0*)?$"


def sent(field: FieldDescriptor) -> Schema:
    """As we write it."""
    kind = _INTEGERS.get(field.cpp_type, "")
    if kind.endswith("64"):
        low, _ = _RANGES[kind]
        return {"type": "string", "format": kind, "pattern": f"^{'-?' if low else ''}[0-9]{{1,20}}$"}
    if kind:
        return _integer(kind)
    if field.cpp_type in _FLOATS:
        return {"type": ["number", "string"], "format": _FLOATS[field.cpp_type], "pattern": _WORDS}
    if field.type == FieldDescriptor.TYPE_BYTES:
        return {"type": "string", "contentEncoding": "base64", "pattern": STANDARD_BASE64}
    return {"type": "boolean" if field.cpp_type == FieldDescriptor.CPPTYPE_BOOL else "string"}


def taken(field: FieldDescriptor) -> Schema:
    """As we read it in a body: a number may be a string."""
    kind = _INTEGERS.get(field.cpp_type)
    if kind is not None:
        first = ["string", "integer"] if kind.endswith("64") else ["integer", "string"]
        return {**_integer(kind), "type": first, "pattern": _written(kind)}
    if field.cpp_type in _FLOATS:
        return {**_bounded(field), "type": ["number", "string"], "pattern": _NUMBER}
    if field.type == FieldDescriptor.TYPE_BYTES:
        return {"type": "string", "contentEncoding": "base64", "pattern": BASE64}
    return sent(field)


def text(field: FieldDescriptor) -> Schema:
    """As we read it in a path or a query, where everything is text: a number is written as one."""
    kind = _INTEGERS.get(field.cpp_type)
    if kind is not None:
        return _integer(kind)
    if field.cpp_type in _FLOATS:
        return {"anyOf": [{**_bounded(field), "type": "number"}, {"enum": ["NaN", "Infinity", "-Infinity"]}]}
    return taken(field)


def _bounded(field: FieldDescriptor) -> Schema:
    kind = _FLOATS[field.cpp_type]
    return {"format": kind, **({"minimum": -_FLOAT_MAX, "maximum": _FLOAT_MAX} if kind == "float" else {})}


def key(field: FieldDescriptor) -> Schema | None:
    """The names that a map's keys can have; None for any."""
    kind = _INTEGERS.get(field.cpp_type)
    if kind is not None:
        sign = "" if kind.startswith("u") else "-?"
        # Two ways to write one key would be a key that stands twice.
        return {"pattern": f"^(0|{sign}[1-9][0-9]{{0,{_DIGITS[kind] - 1}}})$"}
    return {"enum": ["true", "false"]} if field.cpp_type == FieldDescriptor.CPPTYPE_BOOL else None


def enum(descriptor: EnumDescriptor, *, numbers: bool) -> Schema:
    """As we write it: by name, and by number where a number has no name (an open enum keeps those)."""
    if descriptor.full_name == "google.protobuf.NullValue":
        return {"type": "null"}
    known = list(dict.fromkeys(value.number for value in descriptor.values))
    number: Schema = {"type": "integer", "enum": known} if descriptor.is_closed else _integer("int32")
    if numbers:
        return number
    return _names(descriptor) if descriptor.is_closed else {"anyOf": [_names(descriptor), number]}


def taken_enum(descriptor: EnumDescriptor, *, lenient: bool) -> Schema:
    """As we read it in a body: by name or number, a number in a string too. `lenient`: a name that is none is passed over."""
    if descriptor.is_closed:
        known = dict.fromkeys(value.number for value in descriptor.values)
        number: Schema = {"enum": [form for value in known for form in (value, str(value))]}
    else:
        number = {**_integer("int32"), "type": ["integer", "string"], "pattern": "^-?0*[0-9]{1,9}$"}
    null: list[Schema] = [{"type": "null"}] if descriptor.full_name == "google.protobuf.NullValue" else []
    return {"anyOf": [_names(descriptor), number, *([{"type": "string"}] if lenient else []), *null]}


def text_enum(descriptor: EnumDescriptor) -> Schema:
    """As we read it in a path or a query."""
    known = list(dict.fromkeys(value.number for value in descriptor.values))
    return {"anyOf": [_names(descriptor), {"enum": known} if descriptor.is_closed else _integer("int32")]}


def _names(descriptor: EnumDescriptor) -> Schema:
    return {"type": "string", "enum": [value.name for value in descriptor.values]}


def set_to_something(field: FieldDescriptor, schema: Schema) -> Schema:
    """A required field without presence (AIP-203): it is set only where it is not the default."""
    if field.enum_type is not None:
        first = field.enum_type.values[0]
        nothing = [value.name for value in field.enum_type.values if value.number == first.number]
        return {**schema, "not": {"anyOf": [{"enum": nothing}, _same(first.number)]}}
    if field.cpp_type == FieldDescriptor.CPPTYPE_BOOL:
        return {"type": "boolean", "const": True}
    if field.cpp_type == FieldDescriptor.CPPTYPE_STRING:
        return {**schema, "minLength": 1}
    return {**schema, "not": _same(0)}


def _same(number: int) -> Schema:
    """A number in whatever form we read it."""
    digits = f"{'-' if number < 0 else '-?' if not number else ''}0*{abs(number)}"
    return {"anyOf": [{"const": number}, {"type": "string", "pattern": rf"^{digits}(\.0*)?$"}]}
