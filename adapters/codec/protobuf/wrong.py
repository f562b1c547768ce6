"""What is wrong with a value, and where: the place is found while the refusal goes up, so that good values pay nothing for it."""

from __future__ import annotations

import re

from gateway.codec import Value
from gateway.errors import CallerError, FieldError, Reason

_LONGEST_STEP = 64
_NAME = re.compile(r"\w{1,64}")
REQUIRED = "is required"

Step = str | int


class WrongError(Exception):
    """A value is not what its type takes. `steps` lead to it, the innermost first."""

    def __init__(self, detail: str, *steps: Step) -> None:
        super().__init__(detail)
        self.detail = detail
        self.steps: list[Step] = list(steps)


class InexactError(WrongError):
    """A whole number came as a float that is too large to be sure of its last digits."""


WRONG = (WrongError, UnicodeEncodeError)
"""What a reader raises for a bad value. A string that has no UTF-8 holds a lone surrogate."""


class Renamed(dict[str, Value]):
    """The fields of a message by their JSON names, with the names that the caller wrote."""

    def __init__(self) -> None:
        super().__init__()
        self.written: dict[str, str] = {}


def unknown(name: str) -> WrongError:
    """A field that the type does not have. A name that could be none in any contract is not told: it is what the caller says."""
    return WrongError("is no field", name) if _NAME.fullmatch(name) else WrongError("has an unknown field")


def located(error: WrongError | UnicodeEncodeError, value: object, name: str | None, at: Step | None) -> WrongError:
    """The same refusal, seen from the message that holds the field `name` (and in it the element `at`)."""
    wrong = error if isinstance(error, WrongError) else WrongError("has a lone surrogate, which is no character")
    if at is not None:
        wrong.steps.append(at)
    if name is not None:
        wrong.steps.append(value.written.get(name, name) if isinstance(value, Renamed) else name)
    return wrong


def pointer(steps: list[Step]) -> str:
    """The RFC 6901 pointer, as far as its steps may be told: a long or unprintable name is the caller's own business."""
    text = ""
    for step in reversed(steps):
        name = str(step)
        if len(name) > _LONGEST_STEP or not name.isprintable():
            return text
        text += "/" + name.replace("~", "~0").replace("/", "~1")
    return text


def refusal(kind: str, wrong: WrongError) -> CallerError:
    """What the caller is told of it."""
    place = pointer(wrong.steps)
    if wrong.detail == REQUIRED:
        message = f"{place[1:].replace('/', '.')} is required"
    elif place:
        message = f"the message does not fit {kind}: {place} {wrong.detail}"
    else:
        message = f"the message has a part that {wrong.detail}" if wrong.steps else f"the message {wrong.detail}"
    return CallerError(Reason.MALFORMED, message, details=(FieldError(place, wrong.detail),))
