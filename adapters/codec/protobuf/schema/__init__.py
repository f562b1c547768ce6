"""The JSON Schemas of messages in their JSON mapping: what we send is narrower than what we take.

Sent: the canonical form, under the type's options. Taken: every form that the codec reads, so that what does not fit the
schema is refused and what fits is not.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from google.protobuf.descriptor import Descriptor, FieldDescriptor

from adapters.codec.protobuf.schema import scalar, wellknown
from adapters.codec.protobuf.shape import entry, is_map, is_required, takes_null
from adapters.codec.protobuf.wellknown import SPECIAL, WRAPPERS
from gateway.codec import JsonOptions
from gateway.schema import Leaf, Schema, Schemas, nullable

MOST_LEAVES = 500
MOST_LEVELS = 32
_HOLDERS = frozenset({"google.protobuf.Struct", "google.protobuf.ListValue"})


@dataclass(frozen=True, slots=True)
class Teller:
    """Tells the schemas of one side, under one set of options."""

    schemas: Schemas
    options: JsonOptions
    sent: bool
    root: Descriptor
    """The type that is asked about: what its file knows is what an Any may hold."""

    @property
    def variant(self) -> str:
        """What tells this side's schemas of a type from the others."""
        options = self.options
        flags = {
            "Input": not self.sent,
            "Lenient": not self.sent and options.unknown == "ignore",
            "Defaults": self.sent and options.defaults,
            "Numbers": self.sent and options.enum_numbers,
            "Proto": options.proto_names,
        }
        return "".join(name for name, is_so in flags.items() if is_so)

    def message(self, descriptor: Descriptor, without: Sequence[str] = ()) -> Schema:
        """A message of a type; without some of its fields it is told in place, since it is no other's."""
        known = wellknown.schema(descriptor, self)
        if known is not None:
            return known
        if not without:
            return self.schemas.refer(descriptor.full_name, self.variant, lambda: self.fields(descriptor))
        return self.fields(descriptor, without)

    def fields(self, descriptor: Descriptor, without: Sequence[str] = ()) -> Schema:
        """The object of a message's fields. A path of `without` takes the members of its oneof with it."""
        fields = _left(descriptor, without)
        schema: Schema = {"type": "object", **self._comment(descriptor.full_name)}
        schema["properties"] = {self.name(field): self.field(field, _inside(without, field)) for field in fields}
        if needed := [self.name(field) for field in fields if self._is_needed(field)]:
            schema["required"] = needed
        if not self.sent and self.options.unknown == "reject":
            # A field may be called as in the .proto too, but not by both of its names: told, that would be more of `not` than of
            # fields, which no generator of clients or of tests makes sense of.
            schema["additionalProperties"] = False
        if unions := [self._at_most_one(list(union.fields)) for union in descriptor.oneofs if len(union.fields) > 1]:
            schema["allOf"] = unions
        return schema

    def name(self, field: FieldDescriptor) -> str:
        """What a field is called."""
        called: str = field.name if self.options.proto_names else field.json_name
        return called

    def _is_needed(self, field: FieldDescriptor) -> bool:
        if is_required(field):
            return True
        return self.sent and self.options.defaults and not field.has_presence

    def _at_most_one(self, members: Sequence[FieldDescriptor]) -> Schema:
        """Of a oneof's members: as many cases as it has members, each without the others (null is as good as absent)."""
        # Many tools know no `false` in the place of a schema.
        absent: dict[str, Schema] = {
            self.name(field): {"not": {}} if self.sent or takes_null(field) else {"type": "null"} for field in members
        }
        return {"anyOf": [{"properties": {other: null for other, null in absent.items() if other != name}} for name in absent]}

    def field(self, field: FieldDescriptor, without: Sequence[str] = ()) -> Schema:
        """The value of a field, whatever its cardinality; null is as good as absent where it may be."""
        needed = is_required(field)
        schema = self._whole(field, without, needed=needed)
        if not self.sent and not needed and not takes_null(field):
            schema = nullable(schema)
        comment = self._comment(field.full_name)
        return {**schema, **comment} if comment else schema

    def _whole(self, field: FieldDescriptor, without: Sequence[str], *, needed: bool) -> Schema:
        if is_map(field):
            key, value = entry(field)
            schema: Schema = {"type": "object", "additionalProperties": self.single(value)}
            names = scalar.key(key)
            return {**schema, **({"propertyNames": names} if names else {}), **({"minProperties": 1} if needed else {})}
        if field.is_repeated:
            return {"type": "array", "items": self.single(field), **({"minItems": 1} if needed else {})}
        if needed and not field.has_presence:
            # A name that is passed over would leave it unset.
            strict = replace(self, options=replace(self.options, unknown="reject")) if field.enum_type is not None else self
            return scalar.set_to_something(field, strict.single(field, without))
        return self.single(field, without)

    def single(self, field: FieldDescriptor, without: Sequence[str] = ()) -> Schema:
        """One value of a field."""
        if field.message_type is not None:
            return self.message(field.message_type, without)
        if field.enum_type is not None:
            if self.sent:
                return scalar.enum(field.enum_type, numbers=self.options.enum_numbers)
            return scalar.taken_enum(field.enum_type, lenient=self.options.unknown == "ignore")
        return scalar.sent(field) if self.sent else scalar.taken(field)

    def _comment(self, full_name: str) -> Schema:
        text = self.schemas.comments.get(full_name)
        return {"description": text} if text else {}


def told(
    descriptor: Descriptor, options: JsonOptions, schemas: Schemas, *, sent: bool, field: str, without: Sequence[str]
) -> Schema:
    """See `Type.schema`. Raises ValueError for an unknown field."""
    teller = Teller(schemas, options, sent, descriptor)
    if not field:
        return teller.message(descriptor, without)
    found = _field(descriptor, field)
    if found is None:
        raise ValueError(f"{descriptor.full_name} has no field {field}")
    schema = teller.field(found, _inside(without, found))
    kind = found.message_type
    # By itself, one that is not set is null where its JSON is no object or array.
    is_bare = kind is not None and not found.is_repeated and kind.full_name in (SPECIAL | WRAPPERS) - _HOLDERS
    return nullable(schema) if sent and is_bare else schema


def leaves(descriptor: Descriptor, schemas: Schemas, without: Sequence[str]) -> Iterator[Leaf]:
    """What may be said of a message in path and query: its scalars and repeated scalars. A type inside itself has no end, and
    types that lead to many others have a great many: what is deeper is for a body to say.
    """
    yield from _leaves(descriptor, schemas, without, ((descriptor, None),), _levels(descriptor))


def _levels(descriptor: Descriptor) -> int:
    """So many levels of a type are told that their fields are not more than MOST_LEAVES; the first in any case."""
    levels, told = 1, len(descriptor.fields)
    level: list[Descriptor] = [descriptor]
    while level:
        level = [kind for one in level for field in one.fields if (kind := _opened(field)) is not None]
        told += sum(len(kind.fields) for kind in level)
        if told > MOST_LEAVES:
            break
        levels += 1
        if levels > MOST_LEVELS:
            break
    return levels


def _opened(field: FieldDescriptor) -> Descriptor | None:
    """The message whose own fields path and query may say."""
    kind: Descriptor | None = field.message_type
    return None if kind is None or field.is_repeated or wellknown.is_known(kind) else kind


def _leaves(
    descriptor: Descriptor,
    schemas: Schemas,
    without: Sequence[str],
    way: Sequence[tuple[Descriptor, FieldDescriptor | None]],
    levels: int,
) -> Iterator[Leaf]:
    for field in _left(descriptor, without):
        kind = _opened(field)
        above = [field for _, field in way if field is not None]
        leaf = _leaf(field)
        if leaf is not None:
            if is_required(field) and not field.is_repeated and not field.has_presence and not above:
                leaf = scalar.set_to_something(field, leaf)
            schema: Schema = {"type": "array", "items": leaf} if field.is_repeated else leaf
            if comment := schemas.comments.get(field.full_name):
                schema = {**schema, "description": comment}
            steps = (*above, field)
            yield Leaf(".".join(step.json_name for step in steps), ".".join(step.name for step in steps), schema)
        elif kind is not None and levels > 1 and all(kind != one for one, _ in way):
            yield from _leaves(kind, schemas, _inside(without, field), (*way, (kind, field)), levels - 1)


def _leaf(field: FieldDescriptor) -> Schema | None:
    if field.message_type is not None:
        return None if is_map(field) else wellknown.leaf(field.message_type)
    if field.enum_type is not None:
        return scalar.text_enum(field.enum_type)
    return scalar.text(field)


def _field(descriptor: Descriptor, name: str) -> FieldDescriptor | None:
    """A field by either of its names."""
    by_name: Mapping[str, FieldDescriptor] = descriptor.fields_by_name
    return by_name.get(name) or next((field for field in descriptor.fields if field.json_name == name), None)


def _left(descriptor: Descriptor, without: Sequence[str]) -> list[FieldDescriptor]:
    """The fields of a message but for some, which take the members of their oneofs with them."""
    gone = [field for path in without if (field := _field(descriptor, path)) is not None]
    return [
        field for field in descriptor.fields if not any(field.name == other.name or _are_rivals(field, other) for other in gone)
    ]


def _are_rivals(one: FieldDescriptor, other: FieldDescriptor) -> bool:
    """Whether both are members of one oneof."""
    return one.containing_oneof is not None and one.containing_oneof == other.containing_oneof


def _inside(paths: Sequence[str], field: FieldDescriptor) -> tuple[str, ...]:
    """What is left of the paths that go through a field."""
    cut = (path.partition(".") for path in paths)
    return tuple(rest for first, _, rest in cut if rest and first in {field.name, field.json_name})
