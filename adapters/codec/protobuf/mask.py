"""FieldMasks (AIP-134, AIP-161): by name, and made of the keys that a body has."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Self

from adapters.codec.protobuf.wrong import WrongError

_PATH = re.compile(r"[A-Za-z0-9_.*]+\Z", re.ASCII)
_CAPITAL = re.compile("[A-Z]")
_UNDERSCORED = re.compile("_([a-z])")


class Mask(str):
    """A FieldMask in its JSON form that knows its paths as the .proto has them: JSON cannot say all of them (`line_1`)."""

    __slots__ = ("paths",)
    paths: tuple[str, ...]

    @classmethod
    def naming(cls, paths: Iterable[str]) -> Self:
        """Of field paths by the names of the .proto."""
        named = tuple(paths)
        mask = cls(",".join(_UNDERSCORED.sub(lambda found: found[1].upper(), path) for path in named))
        mask.paths = named
        return mask

    @classmethod
    def of(cls, text: str) -> Self:
        """Of paths between commas, in lowerCamelCase or by the names of the .proto."""
        paths = text.split(",") if text else ()
        if not all(_PATH.match(path) for path in paths):
            raise WrongError("is not a list of field paths between commas")
        return cls.naming(path if "_" in path else snake(path) for path in paths)


def snake(path: str) -> str:
    """A path in lowerCamelCase by the names that the .proto has for sure if it follows the style guide."""
    return _CAPITAL.sub(lambda found: "_" + found[0].lower(), path)
