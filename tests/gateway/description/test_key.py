"""What is told of idempotency keys."""

from __future__ import annotations

import pytest

from gateway.description import key
from tests.gateway.description.planned import planned


def route(folder, to):
    said = f"\n  - {{name: one, when: {{rest: POST /one}}, to: {{backend: events, {to}}}}}\n"
    return planned(folder, said, top=f"state: {{path: {folder}/state.db}}\n").routes[0]


@pytest.mark.parametrize("to", ["publish: o", "ask: asked, reply_to: answered, later: {}"])
def test_a_route_with_keys_tells_the_header_and_what_marks_an_answer_of_before(tmp_path, to):
    found = route(tmp_path, f"{to}, idempotency: {{required: true}}")
    (told,) = key.parameters(found)
    assert ("Idempotency-Key", "header", True) == (told["name"], told["in"], told["required"])
    assert ["idempotency-replayed"] == list(key.replayed(found))
    assert ["idempotency-key"] == list(key.of_message(found)["headers"]["properties"])


def test_a_route_without_keys_tells_nothing_of_them(tmp_path):
    found = route(tmp_path, "publish: o")
    assert ([], {}, {}) == (key.parameters(found), key.replayed(found), key.of_message(found))
