"""Messages built from a tree of JSON, as the `map` policy has it: compiled when the config is loaded.

customer: =body.cust.name          an expression: its value, of whatever type; absent optionals leave the field out
reference: "{region}-{id}"         a template: text with path variables and top-level fields of the body
source: web                        anything else stands as it is
lines:
  =for line in body.positions:     a list, one item for each of another
    sku: =line.article
address: {=all: =body.address, city: =body.town}     all fields of an object, then others in addition or in their place
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from gateway.codec import ABSENT, Value
from gateway.expression import Expression, ExpressionError, Scope
from gateway.message import compact
from gateway.result import MAX_RESULT, fail, refuse
from gateway.subject import MEMBERS
from gateway.template import Template, TemplateError

NAMES = ("body", "params", "query", "headers", "principal", "call")
MAX_NODES = 1000
"""Fields, items and values of one tree."""
MAX_LOOPS = 3
"""How deep `=for` may stand in one another."""
MAX_ITEMS = 10_000
"""Items that all `=for` of one message may make together."""
_ALL = "=all"
_FOR = re.compile(r"=for\s+([a-z_][a-z0-9_]*)\s+in\s+(.+)", re.DOTALL)

Place = tuple[str | int, ...]
"""A place in a tree."""


@dataclass(slots=True)
class _Left:
    """What one message may still make."""

    items: int = MAX_ITEMS

    def item(self) -> None:
        self.items -= 1
        if self.items < 0:
            refuse(f"it has more than {MAX_ITEMS} items to go over")


Piece = Callable[[Scope, _Left], str | None]
"""A part of a message as JSON text; None where it is left out."""


class Shape:
    """A tree, compiled. `problems` are what is wrong with it, by place; with one it cannot be used."""

    def __init__(self, tree: Value) -> None:
        self.problems: list[tuple[Place, str]] = []
        self.uses: set[str] = set()
        """The names that it needs values for."""
        self._nodes = 0
        self._piece = self._compiled(tree, (), NAMES)

    def __call__(self, scope: Scope) -> bytes:
        """The message. CallerError where what is given is not what it needs; a note says of which place in the tree."""
        text = self._piece(scope, _Left())
        if text is None:
            fail("nothing is left of it")
        return text.encode()

    def _compiled(self, node: Value, where: Place, names: tuple[str, ...]) -> Piece:
        self._nodes += 1
        if self._nodes == MAX_NODES + 1:
            self.problems.append((where, f"is too much: a message is shaped by {MAX_NODES} fields and values at the most"))
        if self._nodes > MAX_NODES:
            return _constant("null")
        if isinstance(node, str):
            return self._text(node, where, names)
        if isinstance(node, dict):
            loop = next((key for key in node if key.startswith("=for")), None)
            return self._object(node, where, names) if loop is None else self._loop(node, loop, where, names)
        if isinstance(node, list | tuple):
            return _listed([self._compiled(item, (*where, number), names) for number, item in enumerate(node)])
        return _constant(compact(node))

    def _text(self, text: str, where: Place, names: tuple[str, ...]) -> Piece:
        if text.startswith("="):
            expression = self._expression(text[1:], where, names)
            return _constant("null") if expression is None else _noted(_evaluated(expression), where)
        try:
            template = Template(text)
        except TemplateError as error:
            self.problems.append((where, f"""{error}; a text with braces in it is written as an expression, '="..."'"""))
            return _constant("null")
        if not template.names:
            return _constant(compact(text))
        self.uses |= {"body", "params"}
        return _noted(_rendered(template), where)

    def _expression(self, text: str, where: Place, names: tuple[str, ...]) -> Expression | None:
        try:
            expression = Expression(text.strip(), names, MEMBERS)
        except ExpressionError as error:
            self.problems.append((where, str(error)))
            return None
        self.uses |= expression.uses & {*NAMES}
        return expression

    def _object(self, node: dict[str, Any], where: Place, names: tuple[str, ...]) -> Piece:
        strange = next((key for key in node if key.startswith("=") and key != _ALL), None)
        if strange is not None:
            self.problems.append(((*where, strange), "a key that begins with = is =all, or =for NAME in LIST"))
        own = {name: self._compiled(inner, (*where, name), names) for name, inner in node.items() if name != _ALL}
        if _ALL not in node:
            return _fielded(own)
        said = node[_ALL]
        if not isinstance(said, str) or not said.startswith("="):
            self.problems.append(((*where, _ALL), "is an expression for an object, as in =body"))
            return _constant("null")
        expression = self._expression(said[1:], (*where, _ALL), names)
        return _constant("null") if expression is None else _noted(_spread(expression, own), where)

    def _loop(self, node: dict[str, Any], loop: str, where: Place, names: tuple[str, ...]) -> Piece:
        at = (*where, loop)
        said = _FOR.fullmatch(loop.strip())
        wrong = None
        if len(node) > 1:
            wrong = "stands alone: it makes a list, which has no fields"
        elif said is None:
            wrong = "is written =for NAME in LIST, as in =for line in body.lines"
        elif said[1] in names:
            wrong = f"{said[1]} has a meaning already; take another name"
        elif sum(isinstance(step, str) and step.startswith("=for") for step in at) > MAX_LOOPS:
            wrong = f"stands {MAX_LOOPS} deep in others at the most"
        if wrong is not None or said is None:
            self.problems.append((at, wrong or ""))
            return _constant("null")
        expression = self._expression(said[2], at, names)
        inner = self._compiled(node[loop], at, (*names, said[1]))
        return _constant("null") if expression is None else _noted(_each(expression, said[1], inner), where)


def _constant(text: str) -> Piece:
    return lambda _scope, _left: text


def _evaluated(expression: Expression) -> Piece:
    def piece(scope: Scope, _left: _Left) -> str | None:
        value = expression.evaluate(scope)
        return None if value is ABSENT else compact(value)

    return piece


def _rendered(template: Template) -> Piece:
    def piece(scope: Scope, _left: _Left) -> str | None:
        body = scope.values["body"]
        return compact(template.render(scope.values["params"], lambda: body if isinstance(body, dict) else {}))

    return piece


def _noted(piece: Piece, where: Place) -> Piece:
    """The same, and an error says of which place: for whoever wrote the tree, not for the caller."""
    place = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in where).removeprefix(".")

    def noted(scope: Scope, left: _Left) -> str | None:
        try:
            return piece(scope, left)
        except Exception as error:
            if not getattr(error, "__notes__", ()):
                error.add_note(place)
            raise

    return noted


def _joined(opening: str, parts: Iterator[str], closing: str) -> str:
    """Parts as one text, no longer than a result may be."""
    kept: list[str] = []
    size = 0
    for part in parts:
        size += len(part)
        if size > MAX_RESULT:
            refuse(f"what is made of it has more than {MAX_RESULT >> 20} MiB")
        kept.append(part)
    return f"{opening}{','.join(kept)}{closing}"


def _fielded(own: dict[str, Piece]) -> Piece:
    pieces = [(f"{compact(name)}:", piece) for name, piece in own.items()]

    def fields(scope: Scope, left: _Left) -> Iterator[str]:
        for name, piece in pieces:
            text = piece(scope, left)
            if text is not None:
                yield name + text

    return lambda scope, left: _joined("{", fields(scope, left), "}")


def _listed(items: list[Piece]) -> Piece:
    def texts(scope: Scope, left: _Left) -> Iterator[str]:
        for item in items:
            text = item(scope, left)
            if text is not None:
                yield text

    return lambda scope, left: _joined("[", texts(scope, left), "]")


def _spread(expression: Expression, own: dict[str, Piece]) -> Piece:
    """All fields of an object, then its own: in addition, or in the place of those of their names."""
    pieces = [(f"{compact(name)}:", piece) for name, piece in own.items()]

    def fields(scope: Scope, left: _Left) -> Iterator[str]:
        value = expression.evaluate(scope)
        if value is ABSENT:
            value = {}
        if not isinstance(value, dict):
            fail("an object is wanted where something else is")
        for name, inner in value.items():
            if name not in own:
                yield f"{compact(name)}:{compact(inner)}"
        for name, piece in pieces:
            text = piece(scope, left)
            if text is not None:
                yield name + text

    return lambda scope, left: _joined("{", fields(scope, left), "}")


def _each(expression: Expression, name: str, inner: Piece) -> Piece:
    """One item for each of a list. Where that is an absent optional, so is this."""

    def texts(value: list[Value], scope: Scope, left: _Left) -> Iterator[str]:
        for one in value:
            left.item()
            text = inner(Scope({name: one}, scope), left)
            if text is not None:
                yield text

    def piece(scope: Scope, left: _Left) -> str | None:
        value = expression.evaluate(scope)
        if value is ABSENT:
            return None
        if not isinstance(value, list):
            fail("a list is wanted where something else is")
        return _joined("[", texts(value, scope, left), "]")

    return piece
