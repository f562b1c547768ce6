"""The base of every config model: what is registered is the model, and it builds its part."""

from __future__ import annotations

import re
from dataclasses import dataclass
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, ByteSize, ConfigDict, ValidationInfo, field_validator
from pydantic.annotated_handlers import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import PydanticCustomError
from pydantic_core.core_schema import CoreSchema, no_info_after_validator_function


@dataclass(frozen=True, slots=True)
class Written:
    """How a text must be written: a pattern for programs, and words with an example for whoever wrote it otherwise.

    It stands in an annotation: `Annotated[str, Written(r"^[a-z]+$", "lower-case letters, as in tea")]`.
    """

    pattern: str
    words: str

    def check(self, text: str) -> str:
        """The text. Raises ValueError in our words."""
        if not re.search(self.pattern, text) or text.endswith("\n"):
            raise ValueError(f"must be {self.words}")
        return text

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return no_info_after_validator_function(self.check, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {**handler(schema), "pattern": self.pattern}


class Part(BaseModel):  # noqa: PLW1641  pydantic makes the hash of a frozen model
    """A piece of the config. Frozen; an unknown field is an error; field docs come from the descriptions."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, validate_default=True, allow_inf_nan=False
    )

    def __eq__(self, other: object) -> bool:
        """Whether another says the same, whatever has been built of either."""
        return type(self) is type(other) and self.__dict__ == other.__dict__

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
