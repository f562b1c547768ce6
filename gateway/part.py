"""The base of every config model: what is registered is the model, and it builds its part."""

from __future__ import annotations

from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, ByteSize, ConfigDict, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError


class Part(BaseModel):
    """A piece of the config. Frozen; an unknown field is an error; field docs come from the descriptions."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, validate_default=True, allow_inf_nan=False
    )

    @field_validator("*", mode="before")
    @classmethod
    def _no_switch(cls, value: object, info: ValidationInfo) -> object:
        """Refuse `true` where a number is wanted: to Python it is 1, and in a config a mistake."""
        if isinstance(value, bool) and info.field_name is not None:
            wanted = _kinds(cls.model_fields[info.field_name].annotation)
            number = next((kind for kind in wanted if kind in _NUMBERS), None)
            if number is not None and not wanted & {bool, Any, object}:
                raise PydanticCustomError(_NUMBERS[number], "must be a number")  # the words are remedy's
        return value


_NUMBERS: dict[Any, Any] = {int: "int_type", float: "float_type", ByteSize: "byte_size"}


def _kinds(annotation: Any) -> set[Any]:
    """The types that a field may have."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return _kinds(get_args(annotation)[0])
    if origin in {Union, UnionType}:
        return {kind for one in get_args(annotation) for kind in _kinds(one)}
    return {annotation} if isinstance(annotation, type) or annotation is Any else set()
