"""The embedded log as its users meet it: a path in, topics out, and what becomes of them when things break."""

from __future__ import annotations

import asyncio
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

from adapters.backend.local import Config
from gateway.errors import BackendError, Reason
from gateway.exchange import Call, Memory
from gateway.message import JSON, Message
from gateway.port import Source, Subscription
from gateway.target import Target
from gateway.topic.ask import AskTo
from gateway.topic.log import CORRELATION, REPLY_TO
from gateway.topic.publish import PublishTo
from gateway.topic.tail import TailTo
from tests.contract.log import Seen, everything, fill, soon, take, trying


def config(path: Path | str, **settings: object) -> Config:
    return Config.model_validate({"kind": "local", "path": str(path), **settings})


@pytest.fixture
def path(tmp_path):
    return tmp_path / "var" / "deep" / "log.db"


class TestAgain:
    """What a process leaves, the next one finds."""

    async def test_records_offsets_and_partitions_outlive_the_process(self, path):
        async with config(path, topics={"wide": {"partitions": 3}}).build() as local:
            await fill(local, "orders", 3)
            place = await local.append("wide", Message(b"x", key=b"ada"), soon())
            before = await everything(local, "orders")
        async with config(path).build() as local:
            assert before == await everything(local, "orders")
            assert {0: 0, 1: 0, 2: 0, place.partition: 1} == dict(await local.ends("wide"))
            assert [3] == [place.offset for place in await fill(local, "orders", 1)]

    async def test_a_group_goes_on_where_it_was(self, path):
        async with config(path).build() as local:
            await fill(local, "orders", 3)
            seen = Seen()
            async with local.consuming(Subscription(("orders",), "g"), seen):
                await seen.reach(3)
        async with config(path).build() as local:
            await local.produce("orders", Message(b"new"))
            seen = Seen()
            async with local.consuming(Subscription(("orders",), "g"), seen):
                assert [b"new"] == await seen.reach(1)

    async def test_a_group_that_began_at_latest_misses_nothing_while_it_is_away(self, path):
        latest = Subscription(("orders",), "g", "latest")
        async with config(path).build() as local, local.consuming(latest, Seen()):
            pass
        async with config(path).build() as local:
            await local.produce("orders", Message(b"meanwhile"))
            seen = Seen()
            async with local.consuming(latest, seen):
                assert [b"meanwhile"] == await seen.reach(1)

    async def test_offsets_go_on_after_everything_was_dropped(self, path):
        async with config(path, retention={"seconds": 0.001}, retention_every=0.005).build() as local:
            await fill(local, "orders", 3)
            async with asyncio.timeout(10):
                while (await local.starts("orders"))[0] < 3:  # noqa: ASYNC110  retention tells nobody
                    await asyncio.sleep(0)
        async with config(path).build() as local:
            assert [3] == [place.offset for place in await fill(local, "orders", 1)]
            assert {0: 3} == dict(await local.starts("orders"))

    async def test_a_topic_may_be_given_more_partitions(self, path):
        async with config(path, topics={"t": {"partitions": 2}}).build() as local:
            await local.append("t", Message(b"x"), soon())
            ends = dict(await local.ends("t"))
        async with config(path, topics={"t": {"partitions": 4}}).build() as local:
            assert {**ends, 2: 0, 3: 0} == dict(await local.ends("t"))

    async def test_a_topic_cannot_be_given_fewer(self, path):
        async with config(path, topics={"t": {"partitions": 2}}).build() as local:
            await local.append("t", Message(b"x"), soon())
        with pytest.raises(BackendError, match="t has 2 partitions and cannot shrink to 1"):
            await config(path, topics={"t": {}}).build().__aenter__()

    async def test_nothing_outlives_a_log_in_memory(self):
        async with config(":memory:").build() as local:
            await fill(local, "orders", 3)
        async with config(":memory:").build() as local:
            assert {0: 0} == dict(await local.ends("orders"))


class TestPath:
    """Where the log may be opened."""

    async def test_a_second_one_on_the_same_path_is_refused(self, path):
        async with config(path).build():
            with pytest.raises(BackendError, match="in use by process") as caught:
                await config(path).build().__aenter__()
        assert Reason.REFUSED == caught.value.reason

    async def test_a_path_is_free_again_once_it_is_closed(self, path):
        for number in range(2):
            async with config(path).build() as local:
                assert {0: number} == dict(await local.ends("t"))
                await local.produce("t", Message(b"x"))

    async def test_a_file_of_a_newer_version_is_refused(self, path):
        async with config(path).build():
            pass
        with sqlite3.connect(path) as db:
            db.execute("PRAGMA user_version = 99")
        db.close()
        with pytest.raises(BackendError, match="version 99"):
            await config(path).build().__aenter__()

    async def test_a_database_of_something_else_is_left_alone(self, path):
        path.parent.mkdir(parents=True)
        with sqlite3.connect(path) as db:
            db.execute("CREATE TABLE theirs (x)")
        db.close()
        with pytest.raises(BackendError, match="something else"):
            await config(path).build().__aenter__()

    async def test_a_file_that_is_no_database_is_refused(self, path):
        path.parent.mkdir(parents=True)
        path.write_bytes(b"no database at all" * 100)
        with pytest.raises(BackendError, match="cannot be opened"):
            await config(path).build().__aenter__()

    async def test_a_folder_that_cannot_be_made_is_refused(self, tmp_path):
        (tmp_path / "file").touch()
        with pytest.raises(BackendError, match="cannot be opened"):
            await config(tmp_path / "file" / "log.db").build().__aenter__()


class TestTopics:
    """Which topics there are."""

    async def test_a_topic_is_made_by_its_first_record(self):
        async with config(":memory:").build() as local:
            assert {0: 0} == dict(await local.ends("new"))
            await local.produce("new", Message(b"x"))
            assert {0: 1} == dict(await local.ends("new"))

    async def test_a_reader_may_wait_for_a_topic_that_is_not_there_yet(self):
        async with config(":memory:").build() as local, local.reading("new", {0: 0}) as reader:
            await local.produce("new", Message(b"x"))
            assert [b"x"] == [record.body for record in await take(reader, 1)]

    @pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a b", "ü", "x" * 250, "a\n"])
    async def test_a_name_that_kafka_would_refuse_is_refused(self, name):
        async with config(":memory:").build() as local:
            with pytest.raises(BackendError) as caught:
                await local.produce(name, Message(b"x"))
        assert Reason.REFUSED == caught.value.reason

    async def test_the_number_of_topics_is_bounded(self):
        async with config(":memory:", max_topics=2).build() as local:
            await local.produce("a", Message(b"x"))
            await local.produce("b", Message(b"x"))
            with pytest.raises(BackendError, match="2 topics already"):
                await local.produce("c", Message(b"x"))
            await local.produce("a", Message(b"x"))

    async def test_records_without_a_key_take_turns(self):
        async with config(":memory:", topics={"t": {"partitions": 3}}).build() as local:
            places = await fill(local, "t", 6)
            assert {0: 2, 1: 2, 2: 2} == dict(await local.ends("t"))
            assert 3 == len({place.partition for place in places[:3]})


class TestLoading:
    """What is refused before anything runs."""

    def test_a_partition_count_of_0_is_refused(self):
        with pytest.raises(ValidationError):
            config(":memory:", topics={"t": {"partitions": 0}})

    def test_a_declared_topic_needs_a_name_that_kafka_would_take(self):
        with pytest.raises(ValidationError):
            config(":memory:", topics={"a b": {}})

    def test_a_target_needs_a_name_that_kafka_would_take(self):
        refusals = config(":memory:").refusals
        assert [] == list(refusals(PublishTo(backend="b", publish="orders.placed"), None))
        assert [] == list(refusals(PublishTo(backend="b", publish="orders {x}"), None))
        (refusal,) = refusals(AskTo(backend="b", ask="asked", reply_to="an/swers"), None)
        assert "'an/swers' cannot be the name of a topic" in refusal

    def test_it_can_be_consumed(self):
        assert Config.consumable


class TestBounds:
    """What it takes, and what it keeps."""

    async def test_a_full_queue_answers_overloaded(self):
        async with config(":memory:", queue_bytes=1000).build() as local:
            results = await asyncio.gather(
                *(local.append("t", Message(bytes(300)), soon()) for _ in range(3)), return_exceptions=True
            )
            assert [BackendError] == [type(result) for result in results if isinstance(result, Exception)]
            assert Reason.OVERLOADED == results[-1].reason
            assert {0: 2} == dict(await local.ends("t"))
            await local.append("t", Message(bytes(300)), soon())

    @pytest.mark.parametrize(("rule", "left"), [({"records": 4}, 4), ({"bytes": 4 * 1200}, 4)])
    async def test_a_topic_keeps_what_its_retention_says(self, rule, left):
        async with config(":memory:", retention=rule, retention_every=0.005).build() as local:
            for _ in range(20):
                await local.append("t", Message(bytes(1000)), soon())
            async with asyncio.timeout(10):
                while (await local.starts("t"))[0] < 20 - left:  # noqa: ASYNC110  retention tells nobody
                    await asyncio.sleep(0)
            assert list(range(20 - left, 20)) == [record.offset for record in await everything(local, "t")]

    async def test_a_group_that_retention_has_overtaken_goes_on_with_what_is_left(self, path, caplog):
        one = Subscription(("t",), "g")
        async with config(path).build() as local:
            await fill(local, "t", 1)
            seen = Seen()
            async with local.consuming(one, seen):
                await seen.reach(1)
            await fill(local, "t", 9)
        async with config(path, retention={"records": 2}, retention_every=0.005).build() as local:
            async with asyncio.timeout(10):
                while (await local.starts("t"))[0] < 8:  # noqa: ASYNC110  retention tells nobody
                    await asyncio.sleep(0)
            seen = Seen()
            async with local.consuming(one, seen):
                await seen.reach(2)
            assert [8, 9] == [record.offset for record in seen.records]
        assert "t/0: 1 to 7 were dropped undelivered" in caplog.text


class TestVerbs:
    """It offers the verbs of every log."""

    async def test_what_is_published_is_tailed(self):
        async with config(":memory:").build() as local:
            publish = local.handler(Target("r", PublishTo(backend="b", publish="t")))
            exchange = Memory(Message(b"{}", JSON))
            await publish(exchange)
            assert b'"offset":0' in exchange.replies[0].body
            tail = local.handler(Target("r", TailTo(backend="b", tail="t")))
            out = Memory(call=Call("1", "rest", "GET /", query=(("start", "earliest"),), snapshot=True))
            await tail(out)
            assert [b"{}"] == [message.body for message in out.replies]

    async def test_it_is_ready_while_it_is_open(self):
        local = config(":memory:").build()
        with pytest.raises(BackendError):
            await local.check()
        async with local:
            await local.check()
        with pytest.raises(BackendError, match="closed"):
            await local.check()
        with pytest.raises(BackendError, match="closed"):
            await local.produce("t", Message(b"x"))

    async def test_it_is_a_source(self):
        assert isinstance(config(":memory:").build(), Source)

    async def test_a_question_gets_the_answer_that_a_consumer_gives(self):
        async with config(":memory:").build() as local:

            async def answer(record):
                headers = record.headers
                await local.produce(
                    headers.get(REPLY_TO), Message(record.body * 2, headers=headers.without(REPLY_TO), key=record.key)
                )
                assert headers.get(CORRELATION)

            ask = local.handler(Target("r", AskTo(backend="b", ask="asked", reply_to="answered")))
            async with local.consuming(Subscription(("asked",), "g"), trying(answer)):
                exchange = Memory(Message(b"12", JSON))
                await ask(exchange)
            assert [b"1212"] == [message.body for message in exchange.replies]

    async def test_a_group_may_not_consume_a_topic_twice(self):
        one = Subscription(("t",), "g")
        async with config(":memory:").build() as local:
            async with local.consuming(one, Seen()):
                with pytest.raises(BackendError, match="the group g consumes t already"):
                    await local.consuming(one, Seen()).__aenter__()
            async with local.consuming(one, Seen()):
                pass


# A real process under load: it prints the number of each record that was acknowledged, on a line of its own.
WRITER = """
import asyncio, sys
from adapters.backend.local import Config
from gateway.message import Message

async def main():
    async with Config(kind="local", path=sys.argv[1]).build() as local:
        start = (await local.ends("t"))[0]
        loop = asyncio.get_running_loop()
        async def one(lane):
            number = 0
            while True:
                place = await local.append("t", Message(b"%d.%d.%d" % (start, lane, number)), loop.time() + 30)
                print(place.offset, f"{start}.{lane}.{number}", flush=True)
                number += 1
        await asyncio.gather(*(one(lane) for lane in range(32)))

asyncio.run(main())
"""


# A real process whose files may not grow beyond 1 MiB: writing fails with EFBIG from some commit on.
FAILING = """
import asyncio, resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
from adapters.backend.local import Config
from gateway.errors import BackendError
from gateway.message import Message
from gateway.status import outcome_of

async def main():
    async with Config(kind="local", path=sys.argv[1]).build() as local:
        loop = asyncio.get_running_loop()
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
        for number in range(300):
            body = b"%d." % number
            try:
                await local.append("t", Message(body + b"x" * 10_000), loop.time() + 30)
                print("stored", body.decode())
            except BackendError as error:
                print(outcome_of(error).value, body.decode())
        try:
            await local.check()
        except BackendError as error:
            print("check", error.message)

asyncio.run(main())
"""


def killed(path: Path, after: int) -> list[bytes]:
    """Run the writer, kill -9 it after so many acknowledged records, and return what it had said by then."""
    with subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE) as process:
        lines = [process.stdout.readline() for _ in range(after)]
        process.send_signal(signal.SIGKILL)
        # What it had printed by then was acknowledged too, less a line that was cut off.
        lines += process.stdout.read().splitlines(keepends=True)
    return [line for line in lines if line.endswith(b"\n")]


def failing(path: Path) -> list[list[str]]:
    """Run the writer whose disk fails, and return what it said of each record."""
    done = subprocess.run([sys.executable, "-c", FAILING, str(path)], capture_output=True, text=True, check=True)
    return [line.split(" ", 1) for line in done.stdout.splitlines()]


class TestBreaking:
    """Killed, or on a disk that fails."""

    @pytest.mark.slow
    async def test_kill_9_loses_nothing_that_was_acknowledged(self, path):
        acknowledged: dict[int, bytes] = {}
        for round_ in range(5):
            for line in killed(path, 20 + 300 * round_):
                offset, body = line.split()
                acknowledged[int(offset)] = body
        async with config(path).build() as local:
            records = await everything(local, "t")
        held = {record.offset: record.body for record in records}
        assert acknowledged == {offset: held.get(offset) for offset in acknowledged}
        assert len(acknowledged) >= 3000
        assert list(range(len(records))) == sorted(held)
        assert len(records) == len(set(held.values()))

    async def test_a_disk_that_fails_stops_the_log_and_leaves_no_lie(self, path):
        told = failing(path)
        acknowledged = {body for what, body in told if what == "stored"}
        failed = {body for what, body in told if what == "failed"}
        assert acknowledged
        assert ["stored", "unknown", "failed", "check"] == list(dict.fromkeys(what for what, _ in told))
        assert ["check", "the local log cannot be written: writing failed (SQLITE_IOERR_WRITE)"] == told[-1]
        async with config(path).build() as local:
            held = {record.body.decode().rstrip("x") for record in await everything(local, "t")}
        assert acknowledged <= held
        assert not failed & held
