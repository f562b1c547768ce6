"""What docs/shaping.md shows is what happens."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml

from gateway.exchange import Memory
from gateway.expression import MAX_BUILT, MAX_COPIED, MAX_ITERATIONS, MAX_NESTING, MAX_TEXT
from gateway.message import JSON, Message
from gateway.policy.map import Config
from gateway.result import MAX_RESULT
from gateway.shape import MAX_ITEMS, MAX_LOOPS, MAX_NODES
from gateway.topic.filter import MAX_BODY
from tests.contract.policy import a_call, echo

PAGE = (Path(__file__).parents[2] / "docs/shaping.md").read_text()
SHOWN = re.findall(r"```yaml\n(.*?)```\n```json\n(.*?)```\n```json\n(.*?)```", PAGE, re.DOTALL)


def test_the_page_shows_examples():
    assert 7 == len(SHOWN) == PAGE.count("```yaml")


@pytest.mark.parametrize(("tree", "given", "becomes"), SHOWN)
async def test_a_message_becomes_what_the_page_says(tree, given, becomes):
    config = Config(**yaml.safe_load(tree))
    assert not config.refusals((), None)
    exchange = Memory(Message(given.encode(), JSON), call=a_call(target="POST /orders/7"))
    await config.build("orders", "rest")(exchange, echo)
    # As text: the order of the fields counts too.
    assert json.dumps(json.loads(becomes)) == json.dumps(json.loads(exchange.replies[0].body))


@pytest.mark.parametrize(
    "bound",
    [
        f"{MAX_TEXT:,} characters",
        f"inside one another | {MAX_NESTING} |",
        f"{MAX_ITERATIONS:,}; {MAX_BUILT:,} for those",
        f"{MAX_COPIED >> 20} MiB, worked out before",
        f"a result | {MAX_RESULT >> 20} MiB |",
        f"{MAX_NODES:,}; {MAX_ITEMS:,}; {MAX_LOOPS} |",
        f"`limit`, {Config().limit >> 10} KiB unless told; a record that `filter` opens {MAX_BODY >> 10} KiB",
    ],
)
def test_the_bounds_are_those_of_the_page(bound):
    assert bound in PAGE
