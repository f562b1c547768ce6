"""`{name}` templates: for keys, topics, paths and answers. Parsed when loading, rendered per message."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from gateway.errors import CallerError, FieldError, Reason
from gateway.message import compact

_VARIABLE = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}")


class TemplateError(ValueError):
    """A template that cannot be read."""


def text_of(value: object) -> str:
    """How a field stands in text: a string as it is, anything else as JSON."""
    return value if isinstance(value, str) else compact(value)


class Template:
    """Text with `{name}` in it. A name is the path variable or, where the path has none, the message's top-level field."""

    __slots__ = ("_parts", "names", "source")

    def __init__(self, source: str) -> None:
        """Raises TemplateError for a brace that is no variable."""
        self.source = source
        parts = _VARIABLE.split(source)
        if any(brace in part for part in parts[::2] for brace in "{}"):
            raise TemplateError(f"{source!r}: a variable is written {{name}}")
        self._parts = tuple(parts)
        self.names = tuple(dict.fromkeys(parts[1::2]))

    def render(self, params: Mapping[str, str], fields: Callable[[], Mapping[str, object]]) -> str:
        """The text. `fields` is called at most once, and only where `params` lacks a name. CallerError where neither has it."""
        parts = self._parts
        if len(parts) == 1:
            return parts[0]
        opened: Mapping[str, object] | None = None
        out = list(parts)
        for at in range(1, len(parts), 2):
            name = parts[at]
            if name in params:
                out[at] = params[name]
                continue
            if opened is None:
                opened = fields()
            if opened.get(name) is None:
                raise CallerError(
                    Reason.MALFORMED, f"the message has no field {name}", details=(FieldError(f"/{name}", "is missing"),)
                )
            out[at] = text_of(opened[name])
        return "".join(out)
