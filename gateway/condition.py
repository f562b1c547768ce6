"""Conditions of routes (`if:`): compiled when the config is loaded, asked by the router for each call that fits a pattern."""

from __future__ import annotations

from gateway.errors import CallerError
from gateway.expression import Expression, ExpressionError
from gateway.route import Facts
from gateway.subject import given, split

NAMES = ("params", "query", "headers", "call")
_LATER = {
    "body": "no message has been read yet when a route is chosen; a `map` policy sees it",
    "principal": "who calls is found out by the policies of a route, once it is chosen",
}
_MEMBERS = {"call": ("protocol", "method", "path")}


class When:
    """Whether an expression is true of a call. One that fails, as `headers["x-tenant"]` does without that header, is not."""

    __slots__ = ("_expression",)

    def __init__(self, text: str) -> None:
        """Raises ExpressionError."""
        try:
            self._expression = Expression(text, NAMES, _MEMBERS)
        except ExpressionError as error:
            for name, why in _LATER.items():
                if f"'{name}'" in str(error):
                    raise ExpressionError(f"{text!r}: there is no {name} here, for {why}") from error
            raise
        if self._expression.kind not in {"BOOL", "DYN"}:
            raise ExpressionError(f"{text!r}: is no condition: its value is no true or false")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, When) and self._expression == other._expression

    def __hash__(self) -> int:
        return hash(self._expression)

    def __str__(self) -> str:
        return self._expression.text

    def __call__(self, facts: Facts) -> bool:
        """See `gateway.route.Condition`."""
        uses = self._expression.uses
        values = given(facts, uses)
        if "call" in uses:
            method, path = split(facts.target)
            values["call"] = {"protocol": facts.protocol, "method": method, "path": path}
        try:
            return self._expression.evaluate(values) is True
        except CallerError:
            return False
