"""How an HTTP request stands for a message (google/api/http.proto): body, path and query as one JSON mapping.

A value that the path binds is immutable: no other source may name its field, nor another member of its oneof.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from google.protobuf.descriptor import Descriptor, FieldDescriptor

from adapters.codec.protobuf.leaf import Field, Shape, default_of, shape_of
from adapters.codec.protobuf.mask import Mask
from adapters.codec.protobuf.wellknown import SPECIAL, WRAPPERS
from adapters.codec.protobuf.wrong import WrongError, refusal, unknown
from gateway.codec import ABSENT, Bind, Given, Rule, Value
from gateway.errors import CallerError, Reason

_FIXED = "is set by the path"
_TWICE = "is given twice"
_HTTP_BODY = "google.api.HttpBody"
Names = tuple[str, ...]


def binding(descriptor: Descriptor, rule: Rule, empty: Callable[[], Value], made: dict[str, Shape]) -> Bind:
    """See `Type.bind`. `empty`: the JSON of a message with nothing set, asked where that is not an object of its fields.
    `made`: the shapes of the contract's types.
    """
    name: str = descriptor.full_name
    if name not in SPECIAL | WRAPPERS:
        return _Binding(shape_of(descriptor, made), rule).bind
    if rule.variables or rule.body not in {"*", ""}:
        raise ValueError(f"{name} has no fields in its JSON form, so only a whole body can be one")
    nothing = empty()

    def bind(body: Value, given: Given) -> Value:
        if given.query and rule.unknown_query == "reject":
            raise refusal(name, unknown(given.query[0][0]))
        return nothing if body is ABSENT else body

    return bind


class _Place(NamedTuple):
    """Where a field is in a message, and which member it makes of each oneof on its way."""

    field: Field
    path: Names
    unions: tuple[tuple[Names, str], ...]

    def wrong(self, why: str) -> WrongError:
        return WrongError(why, *reversed(self.path))

    def read(self, text: str) -> Value:
        """What a text says of it."""
        if self.field.read is None:
            raise self.wrong(f"{self.field.why}, which path and query cannot say")
        try:
            return self.field.read(text)
        except WrongError as error:
            raise self.wrong(error.detail) from error

    def put(self, message: dict[str, Value], value: Value) -> None:
        """Set it, or add to it where it is repeated."""
        for name in self.path[:-1]:
            message = message.setdefault(name, {})
        if self.field.repeated:
            message.setdefault(self.path[-1], []).append(value)
        else:
            message[self.path[-1]] = value


def _place(steps: tuple[Field, ...]) -> _Place:
    path = tuple(step.json_name for step in steps)
    # A oneof stands beside the fields of its message, under a name that no field has.
    unions = tuple(((*path[:at], "", step.union), step.json_name) for at, step in enumerate(steps) if step.union)
    return _Place(steps[-1], path, unions)


class _Said:
    """What has been said of a message so far."""

    __slots__ = ("paths", "unions")

    def __init__(self, paths: dict[Names, str], unions: dict[Names, str]) -> None:
        self.paths = paths
        """Why they cannot be said again."""
        self.unions = unions
        """The member of each oneof."""

    def check(self, place: _Place) -> None:
        """Refuse what says again or otherwise what has been said."""
        if place.path in self.paths:
            raise place.wrong(self.paths[place.path])
        for union, member in place.unions:
            other = self.unions.get(union, member)
            if other != member:
                raise place.wrong(f"stands beside {other}, and there may be one of them")

    def add(self, place: _Place, why: str) -> None:
        if not place.field.repeated:
            self.paths[place.path] = why
        self.unions.update(place.unions)


class _Level:
    """What the path binds inside one message of the body."""

    def __init__(self) -> None:
        self._refused: dict[str, str] = {}
        self._inner: dict[str, tuple[Field, _Level]] = {}

    def fix(self, steps: tuple[Field, ...]) -> None:
        """Bind a field."""
        step, rest = steps[0], steps[1:]
        self._refused.update(dict.fromkeys(step.rivals, f"cannot stand beside {step.json_name}, which {_FIXED}"))
        if rest:
            self._inner.setdefault(step.json_name, (step, _Level()))[1].fix(rest)
        else:
            self._refused.update(dict.fromkeys((step.json_name, step.name), _FIXED))

    def over(self, fixed: dict[str, Value], body: Value) -> dict[str, Value]:
        """A message of the body with what is bound in it."""
        if not isinstance(body, dict):
            raise WrongError("is not an object")
        for name, why in self._refused.items():
            if name in body:
                raise WrongError(why, name)
        merged = {**fixed, **body}
        for json_name, (field, level) in self._inner.items():
            # By the name that the body has for it.
            name = field.name if field.name in body else json_name
            if name != json_name and json_name in merged and merged.pop(json_name) is not fixed.get(json_name):
                raise WrongError("is given by both of its names", name)
            part = body.get(name)
            if json_name in fixed:  # null is as good as absent
                merged[name] = fixed[json_name] if part is None else level.inside(fixed[json_name], part, name)
        return merged

    def inside(self, fixed: dict[str, Value], part: Value, name: str) -> dict[str, Value]:
        """The same of a message within another, where it has a name."""
        try:
            return self.over(fixed, part)
        except WrongError as error:
            error.steps.append(name)
            raise


class _Binding:
    """One rule, compiled for one type."""

    def __init__(self, shape: Shape, rule: Rule) -> None:
        self._shape = shape
        self._rule = rule
        self._part = _part(shape, rule.body) if rule.body not in {"*", ""} else None
        self._level = _Level()
        self._fixed = _Said({}, {})
        self._variables: list[tuple[str, _Place]] = []
        for variable in rule.variables:
            self._fix(variable)
        if self._part is not None:
            self._check_part(self._part)
        self._places = {name: _place((field,)) for name, field in shape.fields.items()}
        self._mask = _mask(shape, self._part) if rule.patch else None

    def _fix(self, variable: str) -> None:
        steps = _steps(self._shape, variable)
        place = _place(steps)
        try:
            self._fixed.check(place)
        except WrongError as error:
            raise ValueError(f"{{{variable}}} {error.detail}") from error
        self._fixed.add(place, _FIXED)
        self._level.fix(steps)
        self._variables.append((variable, place))

    def _check_part(self, part: _Place) -> None:
        """The body can be said at all."""
        try:
            self._fixed.check(part)
        except WrongError as error:
            raise ValueError(f"the body, {part.field.name}, {error.detail}") from error

    def bind(self, body: Value, given: Given) -> Value:
        """See `Bind`."""
        try:
            return self._message(body, given)
        except WrongError as error:
            raise refusal(self._shape.name, error) from error

    def _message(self, body: Value, given: Given) -> dict[str, Value]:
        message: dict[str, Value] = {}
        for variable, place in self._variables:
            if variable in given.params:
                place.put(message, place.read(given.params[variable]))
        part = self._part
        if body is not ABSENT:
            if not self._rule.body:
                raise CallerError(Reason.MALFORMED, "this call has no body")
            message = self._level.over(message, body if part is None else {part.path[0]: body})
        if given.query:
            said = _Said({}, {**self._fixed.unions})
            if part is not None and body is not ABSENT and body is not None:
                said.unions.update(part.unions)
            for name, text in given.query:
                self._ask(message, said, name, text)
        if self._mask is not None and isinstance(body, dict):
            name, inside = self._mask
            message.setdefault(name, Mask.naming(_keys(inside, body)))
        return message

    def _ask(self, message: dict[str, Value], said: _Said, name: str, text: str) -> None:
        """Let a query parameter say its field."""
        place = self._places.get(name)
        if place is None and (steps := self._shape.find(name)):
            place = _place(steps)
        if place is not None:
            if place.path in self._fixed.paths:
                raise place.wrong(_FIXED)
            in_body = self._rule.body == "*" or (self._part is not None and place.path[0] == self._part.path[0])
            if not in_body:
                value = place.read(text)
                said.check(place)
                said.add(place, _TWICE)
                place.put(message, value)
                return
            self._fixed.check(place)
        if self._rule.unknown_query == "reject":
            raise WrongError("is no field that the query may say", *reversed(name.split(".")))


def _steps(shape: Shape, variable: str) -> tuple[Field, ...]:
    """The fields that lead to what a variable binds. Raises ValueError where it cannot be bound."""
    steps = shape.find(variable)
    if not steps:
        raise ValueError(f"{{{variable}}} is no field of {shape.name}")
    last = steps[-1]
    if last.read is None:
        raise ValueError(f"{{{variable}}} {last.why}, which a path cannot say")
    if last.repeated:
        raise ValueError(f"{{{variable}}} is repeated, and a path says one value")
    return steps


def _part(shape: Shape, body: str) -> _Place:
    """The field that the body is."""
    if body not in shape.fields:
        raise ValueError(f"the body, {body}, is no {'top-level ' if '.' in body else ''}field of {shape.name}")
    return _place((shape.fields[body],))


def _mask(shape: Shape, part: _Place | None) -> tuple[str, Shape] | None:
    """The FieldMask that says which fields of the body a PATCH changes, the only one of its type, and what the body is."""
    if part is None or part.field.shape is None or len(shape.masks) != 1:
        return None
    return shape.masks[0].json_name, part.field.shape


def _keys(shape: Shape, body: dict[str, Value], above: str = "") -> Iterator[str]:
    """The paths of what a body names. What is a list, a map or any JSON is named as a whole."""
    for key, part in body.items():
        field = shape.fields.get(key)
        if field is None:
            continue  # whether that may be is for the codec to say
        if field.shape is not None and isinstance(part, dict) and part:
            yield from _keys(field.shape, part, f"{above}{field.name}.")
        else:
            yield f"{above}{field.name}"


def picking(descriptor: Descriptor, name: str, *, enum_numbers: bool) -> Callable[[Value], Value]:
    """See `Type.pick`."""
    found = _field(descriptor, name)
    if found is None:
        raise ValueError(f"the response body, {name}, is no field of {descriptor.full_name}")
    names = found.json_name, found.name
    default = default_of(found, enum_numbers=enum_numbers)

    def pick(value: Value) -> Value:
        for one in names:
            if one in value:
                return value[one]
        return default

    return pick


def is_raw(descriptor: Descriptor, name: str) -> bool:
    """See `Type.raw`."""
    if name in {"*", ""}:
        return bool(descriptor.full_name == _HTTP_BODY)
    found = _field(descriptor, name)
    return (
        found is not None
        and not found.is_repeated
        and found.message_type is not None
        and found.message_type.full_name == _HTTP_BODY
    )


def _field(descriptor: Descriptor, name: str) -> FieldDescriptor | None:
    """A field by either of its names."""
    return next((field for field in descriptor.fields if name in {field.name, field.json_name}), None)
