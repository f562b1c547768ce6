"""The life of the process, with parts that only say when they come and go."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, ClassVar, Literal

import pytest

from gateway.bind import Address
from gateway.listener import ListenerConfig
from gateway.plan import Plan, plan
from gateway.port import BackendConfig
from gateway.server import Gateway, StartError

SAID: list[str] = []
"""What the parts of a test did, in order."""


class Part:
    """A listener or a backend that notes when it comes and goes."""

    def __init__(self, config: Any, name: str) -> None:
        self._config = config
        self._name = name
        self.view: Any = None

    async def __aenter__(self):
        if self._config.fails:
            raise ERRORS[self._config.fails]
        SAID.append(f"+{self._name}")
        return self

    async def __aexit__(self, *error):
        SAID.append(f"-{self._name}")

    async def check(self):
        """All is well."""

    def handler(self, target):
        raise AssertionError("no route leads here")

    @asynccontextmanager
    async def serving(self):
        async with self:
            try:
                yield Address("127.0.0.1", 80) if self._config.address else None
            finally:
                if self._config.waits:
                    arrivals.append(self._name)
                    async with asyncio.timeout(20):
                        while len(arrivals) < self._config.waits:  # noqa: ASYNC110  a turn each is what is waited for
                            await asyncio.sleep(0)
                if self._config.stuck:
                    await asyncio.Event().wait()
                if self._config.breaks:
                    raise RuntimeError(self._name)


arrivals: list[str] = []
ERRORS = {"os": OSError(98, "Address already in use"), "value": ValueError("no such key"), "runtime": RuntimeError("no parser")}


class Settings:
    fails: str = ""
    address: bool = True
    waits: int = 0
    breaks: bool = False
    stuck: bool = False


class Backend(Settings, BackendConfig):
    kind: Literal["noted"] = "noted"
    name: str
    verbs: ClassVar[dict[str, Any]] = {}

    def build(self, name="-"):
        return Part(self, self.name)


class Listener(Settings, ListenerConfig):
    kind: Literal["noted"] = "noted"
    protocol: ClassVar[str] = "noted"

    def build(self, name, view):
        part = Part(self, name)
        part.view = view
        return part


class Operators(Listener):
    """Serves no route."""

    protocol: ClassVar[str] = ""


@pytest.fixture
def made(tmp_path: Path):
    """Give the maker of a plan out of parts; the file itself has none but a stub's."""
    SAID.clear()
    arrivals.clear()

    def make(*, backends: dict[str, Any] | None = None, listeners: dict[str, Any] | None = None, drain: str = "") -> Plan:
        file = tmp_path / "gateway.yaml"
        file.write_text(
            "listeners: {public: {kind: rest, bind: '127.0.0.1:0'}}\n"
            "backends: {stub: {kind: stub, answers: {hello: {body: hello}}}}\n"
            f"routes: [{{name: hello, when: {{rest: GET /hello}}, to: {{backend: stub, call: hello}}}}]\n{drain}"
        )
        planned = plan(file, {})
        planned.config.backends.update(backends or {})
        if listeners is not None:
            planned.config.listeners.clear()
            planned.config.listeners.update(listeners)
        return planned

    return make


async def test_backends_connect_before_listeners_listen_and_leave_after_them(made):
    planned = made(
        backends={"a": Backend(name="a"), "b": Backend(name="b")},
        listeners={"one": Listener(), "two": Listener()},
    )
    async with Gateway(planned) as gateway:
        assert ["+a", "+b", "+one", "+two"] == SAID
        assert {"one": Address("127.0.0.1", 80), "two": Address("127.0.0.1", 80)} == gateway.addresses
        assert gateway.view.ready
        assert gateway.view.drain_until is None
    assert {"-one", "-two"} == set(SAID[4:6])
    assert {"-a", "-b"} == set(SAID[6:])


async def test_callers_leave_first_then_topics_and_last_what_operators_look_at(made):
    planned = made(listeners={"admin": Operators(), "topic": Listener(address=False), "public": Listener()})
    async with Gateway(planned):
        SAID.clear()
    assert ["-public", "-topic", "-admin"] == SAID


async def test_callers_leave_all_at_once_so_that_none_uses_up_the_time_of_another(made):
    """Each waits in its leaving until all three have begun theirs."""
    async with Gateway(made(listeners={name: Listener(waits=3) for name in "abc"})):
        pass
    assert 3 == len(arrivals)


async def test_one_that_never_leaves_is_cut_in_time_for_those_behind_it(made, caplog):
    """As whoever consumes topics of a broker that is dead."""
    listeners = {"topic": Listener(address=False, stuck=True), "public": Listener()}
    planned = made(backends={"a": Backend(name="a")}, listeners=listeners, drain="drain: {seconds: 0.1}\n")
    async with asyncio.timeout(30), Gateway(planned):
        SAID.clear()
    assert ["-public", "-topic", "-a"] == SAID
    assert "topic was not done in time with what it had to do yet" in caplog.messages


async def test_one_that_fails_to_leave_does_not_keep_the_others_and_is_not_swallowed(made):
    planned = made(backends={"a": Backend(name="a")}, listeners={"one": Listener(breaks=True), "two": Listener()})
    with pytest.raises(RuntimeError, match="one"):
        async with Gateway(planned):
            pass
    assert {"-one", "-two", "-a"} <= set(SAID)


async def test_leaving_fails_readiness_and_sets_one_deadline(made):
    planned = made(listeners={"one": Listener()}, drain="drain: {pause: 0.01, seconds: 7}\n")
    async with Gateway(planned) as gateway:
        before = asyncio.get_running_loop().time()
    assert not gateway.view.ready
    assert 7 * 0.85 <= gateway.view.drain_until - before


@pytest.mark.parametrize(
    ("fails", "text"),
    [("os", "Address already in use"), ("value", "no such key"), ("runtime", "no parser")],
)
async def test_a_part_that_cannot_start_is_named_and_those_before_it_leave(made, fails, text):
    with pytest.raises(StartError, match=f"listener two: {text}"):
        async with Gateway(made(backends={"a": Backend(name="a")}, listeners={"one": Listener(), "two": Listener(fails=fails)})):
            raise AssertionError("it started")
    assert ["+a", "+one", "-one", "-a"] == SAID
    with pytest.raises(StartError, match=f"backend b: {text}"):
        async with Gateway(made(backends={"b": Backend(name="b", fails=fails)})):
            raise AssertionError("it started")
