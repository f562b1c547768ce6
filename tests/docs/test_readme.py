"""README.md: its first requests are made, and answered as it shows."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from tests.system.conftest import SHOP
from tests.system.process import COMMAND, ROOT, Gateway, on_free_ports

README = (ROOT / "README.md").read_text()
SECTION = README.partition("\n## First requests\n")[2].partition("\n## ")[0]
REQUESTS = re.findall(r"^```sh\n(.*?)^```\n```text\n(.*?)^```$", SECTION, re.MULTILINE | re.DOTALL)
PORTS = {"8080": "public", "9090": "rpc", "8081": "live", "9900": "admin"}
# What the `websockets` command says beside the messages: how it moves about on a terminal, and when it comes and goes.
TERMINAL = re.compile(r"\x1b(?:\[[0-9;]*[A-Za-z]|[78])|\r")
COMING_AND_GOING = re.compile(r"^(?:> )*(?:Connected to|Connection closed).*$|^(?:> )+", re.MULTILINE)
VARYING = (
    (re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"), "(time)"),
    (re.compile(r'"id":"[0-9a-f]{12}-[0-9a-f]+"'), '"id":"(id)"'),
    (re.compile(r'"offset":\d+'), '"offset":"(offset)"'),
)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """Yield the shop of `make run`, on free ports."""
    with Gateway(on_free_ports(SHOP.read_text()), tmp_path_factory.mktemp("readme")) as gateway:
        yield gateway


def settled(answer: str) -> list[tuple[str, Any]]:
    """The lines of an answer, with what differs from run to run as placeholders. JSON is compared by its value."""
    answer = COMING_AND_GOING.sub("", TERMINAL.sub("", answer))
    for pattern, placeholder in VARYING:
        answer = pattern.sub(placeholder, answer)
    return [read(line.strip()) for line in answer.splitlines() if line.strip()]


def read(line: str) -> tuple[str, Any]:
    """What stands before the JSON of a line, and its value."""
    prefix, value = re.fullmatch(r"([^\[{]*)(.*)", line).groups()
    return prefix, json.loads(value) if value else None


def ask(command: str, gateway: Gateway) -> str:
    """What a block of commands prints, its ports those of the gateway under test."""
    for port, listener in PORTS.items():
        command = command.replace(f"127.0.0.1:{port}", gateway.addresses[listener])
    # The environment's folder may have another name than the .venv of `make env`.
    command = command.replace(".venv/bin/", f"{COMMAND.parent}/")
    done = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    return done.stdout


# One after the other: the later ones read what the first has written.
@pytest.mark.parametrize(("command", "answer"), REQUESTS)
def test_a_request_of_the_readme_gets_the_answer_that_it_shows(shop: Gateway, command: str, answer: str) -> None:
    assert settled(answer) == settled(ask(command, shop))


def test_every_block_of_the_first_requests_is_tried() -> None:
    assert 9 == len(REQUESTS) == SECTION.count("```sh")
    assert set(PORTS) == set(re.findall(r"127\.0\.0\.1:(\d+)", SECTION))


def test_the_route_table_that_it_shows_is_the_one_that_runs() -> None:
    routes, services = re.findall(r"^```yaml\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    assert routes in SHOP.read_text()
    assert services in (ROOT / "config/examples/services.yaml").read_text()


def test_the_commands_that_it_starts_with_are_in_the_makefile() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"(?:^    |`)make ([a-z-]+)", README, re.MULTILINE)) <= targets
