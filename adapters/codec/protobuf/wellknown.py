"""The types that have a JSON form of their own: google.protobuf's Any, Timestamp, Duration, FieldMask, Struct and wrappers."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import date, datetime
from functools import lru_cache, partial
from math import isfinite
from typing import Any

from google.protobuf.descriptor import Descriptor

from adapters.codec.protobuf.mask import Mask
from adapters.codec.protobuf.member import members
from adapters.codec.protobuf.scalar import double, pack_double
from adapters.codec.protobuf.text import quote
from adapters.codec.protobuf.wire import sized, varint
from adapters.codec.protobuf.wrong import WRONG, WrongError, located
from gateway.codec import Value

Read = Callable[[Value], bytes]
Write = Callable[[Any], str]

_DOMAIN = "google.protobuf."
WRAPPERS = frozenset(
    f"{_DOMAIN}{kind}Value" for kind in ("Double", "Float", "Int64", "UInt64", "Int32", "UInt32", "Bool", "String", "Bytes")
)
SPECIAL = frozenset(f"{_DOMAIN}{kind}" for kind in ("Any", "Duration", "FieldMask", "ListValue", "Struct", "Timestamp", "Value"))
"""Their JSON is not an object of their fields, and in an Any it stands under "value", as that of the wrappers does."""

_TIMESTAMP = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(?:Z|([+-])([01]\d|2[0-3]):([0-5]\d))", re.ASCII)
_DURATION = re.compile(r"(-?)(\d{1,12})(?:\.(\d{1,9}))?s", re.ASCII)
_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001  all of it is UTC
_EPOCH_DAY = _EPOCH.toordinal()
_DAY = 24 * 60 * 60
_TIMES = tuple(f"{minute // 60:02}:{minute % 60:02}:" for minute in range(24 * 60))
_FIRST_SECOND, _LAST_SECOND = -62135596800, 253402300799
_LONGEST = 315576000000
_NANOS = 10**9


def _seconds_and_nanos(seconds: int, nanos: int) -> bytes:
    body = b"\x08" + varint(seconds) if seconds else b""
    return body + b"\x10" + varint(nanos) if nanos else body


def read_timestamp(value: Value) -> bytes:
    """RFC 3339, with up to nine digits of a second."""
    found = _TIMESTAMP.fullmatch(value) if type(value) is str else None
    if found is None:
        raise WrongError("is not a timestamp of RFC 3339")
    moment, fraction, sign, hours, minutes = found.groups()
    try:
        since = datetime.fromisoformat(moment) - _EPOCH
    except ValueError:
        raise WrongError("is not a timestamp of RFC 3339") from None
    seconds = since.days * _DAY + since.seconds
    if sign:
        offset = (int(hours) * 60 + int(minutes)) * 60
        seconds += offset if sign == "-" else -offset
        if not _FIRST_SECOND <= seconds <= _LAST_SECOND:
            raise WrongError("is not between the years 1 and 9999")
    return _seconds_and_nanos(seconds, int(fraction.ljust(9, "0")) if fraction else 0)


@lru_cache(maxsize=1024)
def _date(days: int) -> str:
    return f"{date.fromordinal(days + _EPOCH_DAY).isoformat()}T"


def write_timestamp(message: Any) -> str:
    """In UTC, with as many digits in groups of three as there must be."""
    seconds, nanos = message.seconds, message.nanos
    if not (_FIRST_SECOND <= seconds <= _LAST_SECOND and 0 <= nanos < _NANOS):
        raise WrongError("is not a timestamp between the years 1 and 9999")
    days, second = divmod(seconds, _DAY)
    return f'"{_date(days)}{_TIMES[second // 60]}{second % 60:02}{_fraction(nanos)}Z"'


def read_duration(value: Value) -> bytes:
    """Seconds with up to nine digits behind the point, and an `s`."""
    found = _DURATION.fullmatch(value) if type(value) is str else None
    if found is None:
        raise WrongError('is not a duration such as "1.5s"')
    sign, whole, fraction = found.groups()
    seconds, nanos = int(whole), int(fraction.ljust(9, "0")) if fraction else 0
    if seconds > _LONGEST:
        raise WrongError("is a duration of more than 10,000 years")
    return _seconds_and_nanos(-seconds, -nanos) if sign else _seconds_and_nanos(seconds, nanos)


def write_duration(message: Any) -> str:
    """With as many digits in groups of three as there must be."""
    seconds, nanos = message.seconds, message.nanos
    if abs(seconds) > _LONGEST or abs(nanos) >= _NANOS or seconds * nanos < 0:
        raise WrongError("is not a duration within 10,000 years")
    sign = "-" if seconds < 0 or nanos < 0 else ""
    return f'"{sign}{abs(seconds)}{_fraction(abs(nanos))}s"'


def _fraction(nanos: int) -> str:
    if not nanos:
        return ""
    digits = f"{nanos:09}"
    if digits.endswith("000000"):
        return "." + digits[:3]
    return "." + (digits[:6] if digits.endswith("000") else digits)


_CAPITAL = re.compile("[A-Z]")
_UNDERSCORED = re.compile("_([a-z])")


def read_mask(value: Value) -> bytes:
    """Paths in lowerCamelCase, between commas."""
    if isinstance(value, Mask):
        return b"".join(b"\x0a" + sized(path.encode()) for path in value.paths)
    if type(value) is not str or "_" in value:
        raise WrongError("is not a list of field paths in lowerCamelCase")
    if not value:
        return b""
    snake = _CAPITAL.sub(lambda found: "_" + found[0].lower(), value)
    return b"".join(b"\x0a" + sized(path.encode()) for path in snake.split(","))


def write_mask(message: Any) -> str:
    """Paths in lowerCamelCase. One that would not come back as it was is refused."""
    paths = []
    for path in message.paths:
        camel = _UNDERSCORED.sub(lambda found: found[1].upper(), path)
        if "_" in camel or _CAPITAL.search(path):
            raise WrongError("is a field path that has no lowerCamelCase form")
        paths.append(camel)
    return quote(",".join(paths))


def read_value(value: Value) -> bytes:
    """Any JSON."""
    kind = type(value)
    if kind is str:
        return b"\x1a" + sized(value.encode())
    if value is None:
        return b"\x08\x00"
    if kind is bool:
        return b"\x20\x01" if value else b"\x20\x00"
    if kind is list:
        return b"\x32" + sized(read_list(value))
    if kind is dict or kind is tuple:
        return b"\x2a" + sized(read_struct(value))
    return b"\x11" + pack_double(double(value))


def read_list(value: Value) -> bytes:
    """A JSON array."""
    if type(value) is not list:
        raise WrongError("is not an array")
    out = []
    try:
        for part in value:
            out.append(b"\x0a" + sized(read_value(part)))  # noqa: PERF401  its length is the place of what is wrong
    except WRONG as error:
        raise located(error, None, None, len(out)) from None
    return b"".join(out)


def read_struct(value: Value) -> bytes:
    """A JSON object."""
    out = []
    name = None
    fields = members(value)
    try:
        for name, part in fields.items():
            entry = b"\x0a" + sized(name.encode()) + b"\x12" + sized(read_value(part))
            out.append(b"\x0a" + sized(entry))
    except WRONG as error:
        raise located(error, None, name, None) from None
    return b"".join(out)


def write_value(message: Any) -> str:
    """Any JSON."""
    kind = message.WhichOneof("kind")
    if kind == "string_value":
        return quote(message.string_value)
    if kind == "number_value":
        number = message.number_value
        if not isfinite(number):
            raise WrongError("is a number that JSON does not have")
        return repr(number)
    if kind == "struct_value":
        return write_struct(message.struct_value)
    if kind == "list_value":
        return write_list(message.list_value)
    if kind == "bool_value":
        return "true" if message.bool_value else "false"
    return "null"


def write_list(message: Any) -> str:
    """A JSON array."""
    return "[" + ",".join(map(write_value, message.values)) + "]"


def write_struct(message: Any) -> str:
    """A JSON object."""
    fields = message.fields
    return "{" + ",".join([f"{quote(name)}:{write_value(fields[name])}" for name in fields]) + "}"


def _type_name(url: str) -> str:
    return url.rpartition("/")[2]


def read_any(value: Value, named: Callable[[str], tuple[Descriptor, Read]]) -> bytes:
    """A message under "@type", by its own reader."""
    fields = dict(members(value))
    if not fields:
        return b""
    url = fields.pop("@type", None)
    if type(url) is not str:
        raise WrongError("has no @type")
    packed = b"\x0a" + sized(url.encode())
    try:
        descriptor, read = named(_type_name(url))
    except KeyError:
        raise WrongError("names a type in @type that the contract does not have") from None
    if descriptor.full_name in SPECIAL or descriptor.full_name in WRAPPERS:
        if fields.keys() != {"value"}:
            raise WrongError('has not just "value" beside @type')
        try:
            body = read(fields["value"])
        except WRONG as error:
            raise located(error, None, "value", None) from None
    else:
        body = read(fields)
    return packed + b"\x12" + sized(body) if body else packed


def write_any(message: Any, named: Callable[[str], tuple[type[Any], Write]]) -> str:
    """A message under "@type", by its own writer."""
    url, value = message.type_url, message.value
    if not url and not value:
        return "{}"
    try:
        kind, write = named(_type_name(url))
    except KeyError:
        raise WrongError("names a type in @type that the contract does not have") from None
    text = write(kind.FromString(value))
    head = f'{{"@type":{quote(url)}'
    if kind.DESCRIPTOR.full_name in SPECIAL or kind.DESCRIPTOR.full_name in WRAPPERS:
        return f'{head},"value":{text}}}'
    return f"{head}}}" if text == "{}" else f"{head},{text[1:]}"


_READERS: Mapping[str, Read] = {
    "Duration": read_duration,
    "FieldMask": read_mask,
    "ListValue": read_list,
    "Struct": read_struct,
    "Timestamp": read_timestamp,
    "Value": read_value,
}
_WRITERS: Mapping[str, Write] = {
    "Duration": write_duration,
    "FieldMask": write_mask,
    "ListValue": write_list,
    "Struct": write_struct,
    "Timestamp": write_timestamp,
    "Value": write_value,
}


def special_reader(name: str, named: Callable[[str], tuple[Descriptor, Read]]) -> Read:
    """The reader of one of SPECIAL. `named` finds what an Any holds."""
    return _READERS.get(name.removeprefix(_DOMAIN)) or partial(read_any, named=named)


def special_writer(name: str, named: Callable[[str], tuple[type[Any], Write]]) -> Write:
    """The writer of one of SPECIAL. `named` finds what an Any holds."""
    return _WRITERS.get(name.removeprefix(_DOMAIN)) or partial(write_any, named=named)
