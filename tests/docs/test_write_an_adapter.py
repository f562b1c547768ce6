"""docs/write-an-adapter.md: its code is loaded, its tests are run, and its config is served."""

from __future__ import annotations

import asyncio
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from aiohttp import ClientSession

from gateway import registry
from gateway.errors import BackendError
from gateway.plan import plan
from gateway.server import Gateway

PAGE = Path(__file__).parents[2] / "docs" / "write-an-adapter.md"
BLOCK = re.compile(r"^```\w+ (\S+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
ADAPTER, TESTS, CONFIG, PROJECT = (
    "adapters/backend/line.py",
    "tests/adapters/backend/test_line.py",
    "config/examples/line.yaml",
    "pyproject.toml",
)


def written() -> dict[str, str]:
    """What the page writes, by path; blocks for one file follow each other."""
    files: dict[str, str] = {}
    for path, text in BLOCK.findall(PAGE.read_text()):
        files[path] = f"{files[path]}\n{text}" if path in files else text
    return files


def load(path: str) -> ModuleType:
    """One file of the page as the module that it would be."""
    name = path.removesuffix(".py").replace("/", ".")
    module = sys.modules[name] = ModuleType(name)
    exec(compile(FILES[path], f"{PAGE.name} ({path})", "exec"), module.__dict__)
    return module


FILES = written()
load(ADAPTER)
_tests = load(TESTS)
TestContract = _tests.TestContract
test_an_answer_that_makes_no_sense_is_a_bad_one = _tests.test_an_answer_that_makes_no_sense_is_a_bad_one
test_a_message_cannot_smuggle_a_second_command = _tests.test_a_message_cannot_smuggle_a_second_command


def test_the_page_writes_these_files_and_every_test_in_them_is_run_here():
    assert {ADAPTER, TESTS, CONFIG, PROJECT} == set(FILES)
    assert set() == {name for name in vars(_tests) if name.lower().startswith("test")} - set(globals())


@pytest.fixture
def registered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The page's entry point, as an installed distribution would have it."""
    groups = tomllib.loads(FILES[PROJECT])["project"]["entry-points"]
    lines = [
        f"[{group}]\n" + "\n".join(f"{name} = {value}" for name, value in entries.items()) for group, entries in groups.items()
    ]
    metadata = tmp_path / "page-1.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: page\nVersion: 1\n")
    (metadata / "entry_points.txt").write_text("\n".join(lines))
    monkeypatch.syspath_prepend(tmp_path)
    registry.kinds.cache_clear()
    yield
    registry.kinds.cache_clear()
    registry.load.cache_clear()


async def test_its_config_serves_its_backend(registered: None, tmp_path: Path):
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answers = {b'stock {"sku":"tea"}\n': b'+{"sku": "tea", "quantity": 42}\n'}
        writer.write(answers.get(await reader.readline(), b"-NOT_FOUND we never had that\n"))
        writer.close()

    config = tmp_path / "line.yaml"
    config.write_text(FILES[CONFIG])
    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        host, port = server.sockets[0].getsockname()
        environment = {"WAREHOUSE": f"{host}:{port}", "REST_PORT": "0", "WEBSOCKET_PORT": "0"}
        async with Gateway(plan(config, environment)) as gateway, ClientSession() as client:
            url = f"http://{gateway.addresses['public']}/stock"
            async with client.get(f"{url}/tea") as answer:
                assert (200, {"sku": "tea", "quantity": 42}) == (answer.status, await answer.json())
            async with client.get(f"{url}/gold") as answer:
                assert (404, "we never had that") == (answer.status, (await answer.json(content_type=None))["detail"])
            await gateway.view.backends["warehouse"].check()
            server.close()
            with pytest.raises(BackendError):
                await gateway.view.backends["warehouse"].check()
