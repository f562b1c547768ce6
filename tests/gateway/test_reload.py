"""The config, loaded anew under a gateway that serves."""

from __future__ import annotations

import asyncio
import gc
import socket
from collections.abc import Callable
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import psutil
import pytest
from websockets.asyncio.client import connect

from gateway.metric import known
from gateway.plan import plan
from gateway.reload import Reloads
from gateway.server import Gateway

BEFORE = """
policies: [{kind: observe, log: none}]
listeners:
  public: {kind: rest, bind: "127.0.0.1:0"}
backends:
  stub: {kind: stub, answers: {hello: {body: {said: hello}}, slow: {body: {said: late}, delay: 0.3}}}
  log: {kind: local, path: ":memory:"}
routes:
  - {name: hello, when: {rest: GET /hello}, to: {backend: stub, call: hello}}
  - {name: slow, when: {rest: GET /slow}, to: {backend: stub, call: slow}}
  - {name: put, when: {rest: POST /feed}, to: {backend: log, publish: t}}
  - {name: feed, when: {rest: GET /feed}, to: {backend: log, tail: t}}
"""


class Served:
    """A gateway whose config is a file that a test writes anew."""

    def __init__(self, file: Path, gateway: Gateway, reloads: Reloads, session: aiohttp.ClientSession) -> None:
        self.file = file
        self.gateway = gateway
        self.reloads = reloads
        self.session = session

    def url(self, path: str, listener: str = "public") -> str:
        return f"http://{self.gateway.addresses[listener]}{path}"

    async def get(self, path: str, listener: str = "public") -> tuple[int, object]:
        async with self.session.get(self.url(path, listener)) as answer:
            return answer.status, await answer.json()

    async def told(self, text: str) -> object:
        self.file.write_text(text)
        return await self.reloads.reload()

    async def changed(self, *pairs: tuple[str, str]) -> object:
        text = self.file.read_text()
        for old, new in pairs:
            assert old in text
            text = text.replace(old, new)
        return await self.told(text)


@pytest.fixture
def serving(tmp_path):
    @asynccontextmanager
    async def serve(text: str = BEFORE):
        file = tmp_path / "gateway.yaml"
        file.write_text(text)
        planned = plan(file)
        reloads = Reloads(planned)
        async with (
            Gateway(planned, reload=reloads.reload) as gateway,
            reloads.of(gateway),
            aiohttp.ClientSession() as session,
        ):
            yield Served(file, gateway, reloads, session)

    return serve


def number(name: str, *labels: str) -> float:
    return next(metric for metric in known() if metric.name == name).values().get(labels, 0)


async def test_what_says_the_same_stays_and_what_is_new_is_there(serving):
    async with serving() as served:
        before = dict(served.gateway.view.backends)
        told = await served.changed(
            ("{body: {said: hello}}", "{body: {said: again}}"),
            ("  - {name: slow, when: {rest: GET /slow}", "  - {name: new, when: {rest: GET /new}"),
        )
        assert "changed" == told.outcome
        assert {"added": ("new",), "changed": ("hello",), "removed": ("slow",), "unchanged": ("put", "feed")} == told.changes[
            "routes"
        ]
        assert {"added": (), "changed": ("stub",), "removed": (), "unchanged": ("log",)} == told.changes["backends"]
        assert ("public",) == told.changes["listeners"]["unchanged"]
        assert before["log"] is served.gateway.view.backends["log"]
        assert before["stub"] is not served.gateway.view.backends["stub"]
        assert (200, {"said": "again"}) == await served.get("/hello")
        assert (200, {"said": "late"}) == await served.get("/new")
        assert 404 == (await served.get("/slow"))[0]
        assert {"hello", "new", "put", "feed"} == {row["route"] for row in served.gateway.view.routes}


async def test_a_config_that_says_the_same_in_other_words_changes_nothing(serving):
    async with serving() as served:
        view = dict(served.gateway.view.backends)
        told = await served.told("# moved\n\n" + BEFORE.replace("{rest: GET /hello}", '{"rest": "GET /hello"}'))
        assert "unchanged" == told.outcome, told
        assert view == served.gateway.view.backends


async def test_a_wrong_config_is_told_and_the_one_before_is_served_on(serving):
    async with serving() as served:
        wrong = number("polygate_reloads", "refused")
        told = await served.changed(("call: hello", "cal: hello"))
        assert "refused" == told.outcome
        assert [(str(served.file), 9, "routes[0].to.cal")] == [(one["file"], one["line"], one["path"]) for one in told.problems]
        assert (200, {"said": "hello"}) == await served.get("/hello")
        assert wrong + 1 == number("polygate_reloads", "refused")
        assert 1 == number("polygate_config_stale")
        assert "unchanged" == (await served.told(BEFORE)).outcome
        assert 0 == number("polygate_config_stale")


async def test_a_part_that_cannot_start_is_told_with_its_place_and_nothing_has_changed(serving):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        async with serving() as served:
            told = await served.changed(
                ("backends:", f"  more: {{kind: rest, bind: '127.0.0.1:{port}'}}\nbackends:"), ("said: hello", "said: again")
            )
            assert "refused" == told.outcome
            (problem,) = told.problems
            assert (str(served.file), 5, "listeners.more", "Address already in use") == tuple(problem.values())
            assert (200, {"said": "hello"}) == await served.get("/hello")
            assert {"public"} == served.gateway.addresses.keys()


async def test_storage_that_is_in_use_is_not_taken_over(serving, tmp_path):
    text = BEFORE.replace('":memory:"', f"{tmp_path}/log.db")
    async with serving(text) as served:
        told = await served.told(text.replace("log.db}", "log.db, max_topics: 7}"))
        assert "refused" == told.outcome
        assert "would have the storage of log, which is in use: that takes a restart" == told.problems[0]["text"]
        assert "unchanged" == (await served.told(text)).outcome


async def test_what_is_in_flight_ends_on_the_backend_on_which_it_began(serving):
    async with serving() as served, asyncio.TaskGroup() as group:
        slow = group.create_task(served.get("/slow"))
        inside = served.gateway._parts.served["slow"].inside
        await until(lambda: inside.running)
        await served.changed(("said: late", "said: later"))
        assert (200, {"said": "late"}) == await slow
        assert (200, {"said": "later"}) == await served.get("/slow")


@asynccontextmanager
async def events(served: Served):
    async with served.session.get(served.url("/feed"), headers={"Accept": "text/event-stream"}) as answer:

        async def event() -> str:
            text = ""
            while not text.endswith("\n\n") or "data:" not in text:
                line = (await answer.content.readline()).decode()
                assert line, "the stream has ended"
                text = text + line if line != "\n" or "data:" in text else ""
            return text

        yield event


async def put(served: Served, body: str) -> None:
    async with served.session.post(served.url("/feed"), data=body, headers={"Content-Type": "application/json"}) as answer:
        assert 201 == answer.status


async def test_a_stream_over_a_backend_that_stays_goes_on_though_its_route_is_another_or_gone(serving):
    async with serving() as served, events(served) as event:
        for pairs in ([("tail: t}", "tail: t, start: earliest}")], [("  - {name: feed", "  #")]):
            await served.changed(*pairs)
            await put(served, '{"n": 1}')
            assert 'data: {"n": 1}' in await event()


async def test_a_stream_over_a_backend_that_goes_is_told_and_has_its_place_to_go_on_from(serving):
    async with serving(BEFORE + "drain: {seconds: 0.4}\n") as served, events(served) as event:
        await put(served, '{"n": 1}')
        assert 'data: {"n": 1}' in await event()
        await served.changed(('path: ":memory:"', 'path: ":memory:", max_topics: 7'))
        error = await event()
        assert "event: error" in error
        assert '"retryable":true' in error


SUBSCRIBED = """
drain: {seconds: 0.4}
state: {path: "STATE"}
listeners:
  live: {kind: websocket, bind: "127.0.0.1:0"}
backends:
  log: {kind: local, path: ":memory:"}
routes:
  - {name: put, when: {websocket: /put}, to: {backend: log, publish: t}}
  - {name: feed, when: {websocket: /feed}, to: {backend: log, tail: t, start: earliest}}
  - name: mine
    when: {websocket: /mine}
    to: {backend: log, tail: t, start: earliest, on_gap: tell, subscribers: {name: "{who}"}}
"""


async def test_a_stream_whose_place_is_kept_elsewhere_is_told_so_and_one_that_keeps_none_goes_on(serving, tmp_path):
    """Also where its route became another before that: what it acknowledged was stored nowhere any more."""
    async with serving(SUBSCRIBED.replace("STATE", str(tmp_path / "one.db"))) as served:
        live = f"ws://{served.gateway.addresses['live']}"
        async with connect(f"{live}/put") as put, connect(f"{live}/feed") as feed, connect(f"{live}/mine?who=ada") as mine:
            await put.send("{}")
            assert [(await one.recv())[:15] for one in (feed, mine)] == ['{"cursor":"0:1"'] * 2
            await served.changed(('{name: "{who}"}', '{name: "{who}", unacked: 7}'))
            assert "changed" == (await served.changed(("one.db", "two.db"))).outcome
            await mine.wait_closed()
            assert (1013, "Overloaded; cursor=0:1") == (mine.close_code, mine.close_reason)
            await put.send("{}")
            assert '{"cursor":"0:2"' == (await feed.recv())[:15]


async def test_a_listener_that_changes_goes_on_with_its_port_and_drops_no_connection(serving):
    async with serving(BEFORE.replace("delay: 0.3", "delay: 0.05")) as served:
        address = served.gateway.addresses["public"]
        stop = asyncio.Event()
        answered = 0

        async def ask() -> None:
            nonlocal answered
            while not stop.is_set():
                # A connection each: the socket's queue is what is tested.
                async with aiohttp.ClientSession() as session, session.get(f"http://{address}/slow") as answer:
                    assert 200 == answer.status
                    answered += 1

        async with asyncio.TaskGroup() as group:
            for _ in range(8):
                group.create_task(ask())
            for seconds in range(20, 40):
                text = BEFORE.replace('bind: "127.0.0.1:0"', f'bind: "127.0.0.1:0", body_seconds: {seconds}')
                told = await served.told(text.replace("delay: 0.3", "delay: 0.05"))
                assert ("public",) == told.changes["listeners"]["changed"]
                before = answered
                await until(lambda before=before: answered >= before + 8)
            stop.set()
        assert address == served.gateway.addresses["public"]


async def test_a_listener_that_is_gone_is_no_longer_there(serving):
    more = "  more: {kind: rest, bind: '127.0.0.1:0'}\nbackends:"
    async with serving(BEFORE.replace("backends:", more)) as served:
        url = served.url("/hello", "more")
        assert (200, {"said": "hello"}) == await served.get("/hello", "more")
        await served.told(BEFORE)
        assert {"public"} == served.gateway.addresses.keys()
        await asyncio.gather(*served.gateway._leaving)
        async with aiohttp.ClientSession() as session:
            with pytest.raises(aiohttp.ClientConnectionError):
                await session.get(url)


LIMITED = BEFORE.replace(
    "to: {backend: stub, call: hello}", "policies: [{kind: rate, limit: 2, per: minute}], to: {backend: stub, call: hello}"
)


async def test_a_limit_counts_on_through_a_reload_whatever_else_of_its_route_changes(serving):
    async with serving(LIMITED) as served:
        assert 200 == (await served.get("/hello"))[0]
        await served.changed(("{body: {said: hello}}", "{body: {said: again}}"))
        assert (200, {"said": "again"}) == await served.get("/hello")
        await served.changed(("GET /slow", "GET /slower"))
        assert 429 == (await served.get("/hello"))[0]
        await served.changed(("limit: 2", "limit: 3"))
        assert 200 == (await served.get("/hello"))[0]


async def test_one_reload_at_a_time(serving):
    async with serving() as served, asyncio.TaskGroup() as group:
        first = group.create_task(served.reloads.reload())
        await asyncio.sleep(0)
        assert "busy" == (await served.reloads.reload()).outcome
        assert "unchanged" == (await first).outcome


async def test_one_that_stops_loads_nothing(serving):
    async with serving() as served:
        reloads = served.reloads
    assert "stopping" == (await reloads.reload()).outcome


async def test_a_signal_that_comes_while_the_config_is_loaded_has_it_loaded_once_more(serving):
    async with serving() as served:
        before = number("polygate_reloads", "unchanged")
        for _ in range(3):
            served.reloads.ask()
            await asyncio.sleep(0)
        await until(lambda: before + 2 == number("polygate_reloads", "unchanged"))


async def until(true: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not true():  # noqa: ASYNC110  what is waited for tells nobody
            await asyncio.sleep(0.001)


WATCHED = BEFORE + "reload: {watch: true, every: 0.1}\n"


async def test_a_change_of_a_file_is_loaded_where_the_config_says_so(serving):
    async with serving(WATCHED) as served:
        served.file.write_text(WATCHED.replace("GET /hello", "GET /hallo"))
        await until(lambda: served.gateway.view.find("rest", "GET /hallo").error is None)
        served.file.write_text("oops")
        await until(lambda: 1 == number("polygate_config_stale"))
        refused = number("polygate_reloads", "refused")
        other = served.file.with_name("other")
        other.write_text(WATCHED)
        other.replace(served.file)
        await until(lambda: served.gateway.view.find("rest", "GET /hello").error is None)
        assert refused == number("polygate_reloads", "refused")


async def test_what_the_config_is_made_of_is_watched_too(serving, tmp_path):
    (tmp_path / "protos").mkdir()
    proto = tmp_path / "protos" / "one.proto"
    proto.write_text('syntax = "proto3"; package one; message One {} service S { rpc Say(One) returns (One); }')
    (tmp_path / "schema.json").write_text('{"required": ["a"]}')
    (tmp_path / "secret").write_text("first")
    text = WATCHED.replace("said: hello", "said: '${file:secret}'").replace(
        "rest: GET /slow}", "rest: POST /slow}, contract: {request: schema.json}"
    )
    async with serving(text + "contracts: [protos]\n") as served:

        def loaded() -> float:
            return number("polygate_reloads", "changed") + number("polygate_reloads", "unchanged")

        for name, content in (
            ("secret", "second"),
            ("schema.json", '{"required": ["b"]}'),
            ("protos/one.proto", proto.read_text().replace("Say", "Tell")),
            ("protos/two.proto", 'syntax = "proto3"; package two;'),
        ):
            before = loaded()
            (tmp_path / name).write_text(content)
            await until(lambda before=before: before < loaded())
        assert (200, {"said": "second"}) == await served.get("/hello")
        assert ["one.S/Tell"] == list(served.gateway.view.contracts.methods)


@pytest.mark.slow
async def test_a_thousand_reloads_leave_nothing_behind(serving):
    """What waits for its time, as a deadline's clock does, is gone soon."""
    text = BEFORE.replace("{kind: observe, log: none}", "{kind: observe, log: none}, {kind: deadline, seconds: 0.1}")
    async with serving(text + "drain: {seconds: 0.5}\n") as served:
        texts = [served.file.read_text().replace("body: {said: hello}", f"body: {{said: {n}}}") for n in ("one", "two")]
        texts[1] = texts[1].replace('bind: "127.0.0.1:0"', 'bind: "127.0.0.1:0", body_seconds: 20').replace("GET /slow", "GET /s")
        process = psutil.Process()

        async def some(count: int) -> None:
            for turn in range(count):
                served.file.write_text(texts[turn % 2])
                await served.gateway.reload(plan(served.file))
                assert 200 == (await served.get("/hello"))[0]
            await asyncio.gather(*served.gateway._leaving)

        def held() -> tuple[int, int, int]:
            return process.num_fds(), len(asyncio.all_tasks()), process.num_threads()

        def objects() -> int:
            gc.collect()
            return len(gc.get_objects())

        await some(100)
        before, count = held(), objects()
        await some(900)
        await until(lambda: before == held())
        await until(lambda: objects() < count + 450)


async def test_what_the_command_line_says_of_workers_goes_before_the_file_at_a_reload_too(tmp_path):
    """A backend of one process is not refused then."""
    file = tmp_path / "gateway.yaml"
    file.write_text("workers: 2\n" + BEFORE)
    planned = plan(file, workers=1)
    reloads = Reloads(planned)
    async with Gateway(planned, reload=reloads.reload) as gateway, reloads.of(gateway):
        told = await reloads.reload()
        assert ("unchanged", ()) == (told.outcome, tuple(told.problems))
        assert 1 == gateway.plan.config.file.workers


async def test_that_other_workers_take_a_restart_is_said(serving, caplog):
    text = (
        "listeners:\n  public: {kind: rest, bind: '127.0.0.1:0'}\nbackends: {stub: {kind: stub, answers: {hello: {body: {}}}}}\n"
    )
    text += "routes: [{name: hello, when: {rest: GET /hello}, to: {backend: stub, call: hello}}]\n"
    async with serving(text) as served:
        assert "unchanged" == (await served.told("workers: 3\n" + text)).outcome
    assert "workers: a reload has as many as before; 3 takes a restart" in caplog.text
