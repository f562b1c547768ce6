"""What is said to whoever wrote a config that is wrong: the place in the file, what is the matter, and what to write."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeVar

from pydantic import ValidationError

from gateway.part import Part
from gateway.source import Source, Where

PartType = TypeVar("PartType", bound=Part)
MANY = 12
"""More names than this are not all told."""

# By pydantic's type of error; what is not here is told in pydantic's words.
_WORDS = {
    "byte_size": "a size, as in 65536 or 64KiB",
    "byte_size_unit": "a size, as in 65536 or 64KiB",
    "bool_parsing": "true or false",
    "bool_type": "true or false",
    "dict_type": "a mapping",
    "float_parsing": "a number",
    "float_type": "a number",
    "int_from_float": "a whole number",
    "int_parsing": "a whole number",
    "int_type": "a whole number",
    "list_type": "a list",
    "mapping_type": "a mapping",
    "model_type": "a mapping",
    "string_type": "a text",
    "tuple_type": "a list",
}


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A remedy for a misspelt name: the nearest known one, or all of them."""
    names = list(known)
    near = difflib.get_close_matches(word, names, n=1, cutoff=0.6)
    if near:
        return f'; did you mean "{near[0]}"?'
    shown = ", ".join(names[:MANY]) + (", ..." if len(names) > MANY else "")
    return f"; there {'is' if len(names) == 1 else 'are'} {shown}" if names else ""


def validated(source: Source, model: type[PartType], value: object, where: Where) -> PartType | None:
    """One model over one value; its problems are noted with their lines, and None returned."""
    try:
        return model.model_validate(value)
    except ValidationError as errors:
        for at, text in _told(model, value, errors):
            source.wrong((*where, *at), text)
        return None


def _told(model: type[Part], value: object, errors: ValidationError) -> Iterator[tuple[Where, str]]:
    # A value that may have one of several types fails once for each: told as one problem.
    wanted: dict[Where, list[str]] = {}
    unquoted: set[Where] = set()
    for error in errors.errors(include_url=False, include_input=True):
        kind = error["type"]
        at = _place(value, error["loc"], missing=kind == "missing")
        if kind == "extra_forbidden":
            yield at, f"unknown field{did_you_mean(str(at[-1]), _fields(model, at))}"
        elif kind == "missing":
            yield at, f"is missing{_example(model, at)}"
        elif kind == "literal_error":
            known = [str(name) for name in _quoted(error["ctx"]["expected"])]
            yield at, f"must be one of {', '.join(known)}{_near(error['input'], known)}"
        elif kind in _WORDS:
            word = _WORDS[kind]
            wanted.setdefault(at, []).append(word)
            if word == "a text" and isinstance(error["input"], int | float):
                unquoted.add(at)
        elif kind == "too_short" or (kind == "string_too_short" and error["ctx"]["min_length"] == 1):
            yield at, "must not be empty"
        else:
            yield at, _sentence(error["msg"])
    for at, words in wanted.items():
        yield at, f"must be {' or '.join(dict.fromkeys(words))}{'; put quotes around it' if at in unquoted else ''}"


def _place(value: object, location: tuple[str | int, ...], *, missing: bool) -> Where:
    """The part of a location that is in the file: pydantic puts the names of types and functions between."""
    at: list[str | int] = []
    for number, step in enumerate(location):
        within = isinstance(value, list) and isinstance(step, int) and step < len(value)
        if within or (isinstance(value, Mapping) and step in value):
            value = value[step]  # type: ignore[index]  # one of the two, as asked above
            at.append(step)
        elif missing and number == len(location) - 1:
            at.append(step)
    return tuple(at)


def _quoted(expected: str) -> list[str]:
    """The names in pydantic's "'a', 'b' or 'c'"."""
    return expected.replace(" or ", ", ").replace("'", "").split(", ")


def _near(given: object, known: list[str]) -> str:
    near = difflib.get_close_matches(str(given), known, n=1, cutoff=0.6)
    return f'; did you mean "{near[0]}"?' if near else ""


def _sentence(message: str) -> str:
    for opening in ("Value error, ", "Input should ", "Value should ", "String should "):
        if message.startswith(opening):
            rest = message.removeprefix(opening)
            return rest if opening == "Value error, " else f"must {rest}"
    return message[0].lower() + message[1:]


def _fields(model: type[Part], at: Where) -> Iterable[str]:
    """The field names that were possible where a place ends."""
    known: Any = model
    for step in at[:-1]:
        if isinstance(step, str) and isinstance(known, type) and issubclass(known, Part) and step in known.model_fields:
            known = _inner(known.model_fields[step].annotation)
    if not (isinstance(known, type) and issubclass(known, Part)):
        return ()
    return [field.alias or name for name, field in known.model_fields.items()]


def _inner(annotation: Any) -> Any:
    """The model inside of an annotation: `Answer` of Mapping[str, Answer], `Tls` of Tls | None."""
    if isinstance(annotation, type) and not hasattr(annotation, "__args__"):
        return annotation
    found = [_inner(argument) for argument in getattr(annotation, "__args__", ())]
    return next((kind for kind in found if isinstance(kind, type) and issubclass(kind, Part)), None)


def _example(model: type[Part], at: Where) -> str:
    field = model.model_fields.get(str(at[-1])) if len(at) == 1 else None
    return f"; for example {json.dumps(field.examples[0], ensure_ascii=False)}" if field is not None and field.examples else ""
