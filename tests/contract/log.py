"""What every log and every source must do, whatever stores it: `local`, `kafka` and the fake of the tests run these suites.

Subclass in a test file and give the fixtures. `TestX(LogContract)` needs `log`, `new_topic` and `overtaken`;
`TestX(SourceContract)` needs `source` and `new_topic`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from uuid import uuid4

import pytest

from gateway.delivery import LAG
from gateway.errors import BackendError, CallerError, GatewayError, Outcome, Reason
from gateway.message import Headers, Message
from gateway.port import Ahead, Deliver, Record, Source, Subscription, Turn
from gateway.status import outcome_of
from gateway.topic.log import Log, Place, Post, Reader

PATIENCE_S = 30
MAX_BATCH = 1000

NewTopic = Callable[..., Awaitable[str]]
"""Make a topic of the test's own and return its name; takes `partitions`, one unless told."""


def soon() -> float:
    """A deadline that no sound log misses."""
    return asyncio.get_running_loop().time() + PATIENCE_S


async def fill(log: Log, topic: str, count: int) -> list[Place]:
    """Append `count` records without a key, one after the other, whose bodies are their numbers."""
    return [await log.append(topic, Message(b"%d" % number), soon()) for number in range(count)]


async def take(reader: Reader, count: int) -> list[Record]:
    """Read on until there are `count` records."""
    records: list[Record] = []
    async with asyncio.timeout(PATIENCE_S):
        while len(records) < count:
            records.extend(await reader.read())
    return records


async def everything(log: Log, topic: str) -> list[Record]:
    """All that a topic holds, in order per partition."""
    ends = await log.ends(topic)
    starts = await log.starts(topic)
    async with log.reading(topic, starts) as reader:
        return await take(reader, sum(ends[partition] - starts[partition] for partition in ends))


class LogContract:
    """Run against anything that says it is a `Log`."""

    too_large = 2 << 20
    """A body of so many bytes is more than the log takes."""
    absent = "no-such-topic"
    """A topic that the log has not, and does not make."""

    @pytest.fixture
    async def log(self) -> Log:
        """Yield the log, connected."""
        raise NotImplementedError

    @pytest.fixture
    async def new_topic(self) -> NewTopic:
        """Return the maker of topics."""
        raise NotImplementedError

    @pytest.fixture
    async def overtaken(self) -> tuple[str, int]:
        """Return a topic of one partition, and the offset above 0 of the first record that its retention has left."""
        raise NotImplementedError

    async def test_offsets_of_a_new_topic_start_at_0(self, log, new_topic):
        topic = await new_topic()
        assert {0: 0} == dict(await log.starts(topic))
        assert {0: 0} == dict(await log.ends(topic))

    async def test_offsets_count_the_records_of_a_partition(self, log, new_topic):
        topic = await new_topic()
        places = await fill(log, topic, 3)
        assert [(topic, 0, 0), (topic, 0, 1), (topic, 0, 2)] == [(at.topic, at.partition, at.offset) for at in places]
        assert {0: 3} == dict(await log.ends(topic))
        assert {0: 0} == dict(await log.starts(topic))

    async def test_every_partition_is_told(self, log, new_topic):
        topic = await new_topic(partitions=3)
        assert {0: 0, 1: 0, 2: 0} == dict(await log.ends(topic)) == dict(await log.starts(topic))

    async def test_a_record_is_read_as_it_was_appended(self, log, new_topic):
        topic = await new_topic()
        headers = Headers((("a", "1"), ("b", "grüße"), ("a", "2")))
        place = await log.append(topic, Message(b"\x00body\xff", key=b"\xffkey\x00", headers=headers), soon())
        (record,) = await everything(log, topic)
        assert Record(topic, 0, 0, place.timestamp, b"\xffkey\x00", b"\x00body\xff", headers) == record
        assert isinstance(record.headers, Headers)
        assert place.timestamp > 0

    async def test_no_key_an_empty_key_and_an_empty_body_stay_what_they_are(self, log, new_topic):
        topic = await new_topic()
        await log.append(topic, Message(b"x"), soon())
        await log.append(topic, Message(b"x", key=b""), soon())
        await log.append(topic, Message(b"", key=b"k"), soon())
        assert [(None, b"x"), (b"", b"x"), (b"k", b"")] == [(one.key, one.body) for one in await everything(log, topic)]

    async def test_appends_at_once_get_one_offset_each(self, log, new_topic):
        topic = await new_topic()
        places = await asyncio.gather(*(log.append(topic, Message(b"%d" % number), soon()) for number in range(200)))
        assert list(range(200)) == sorted(place.offset for place in places)
        held = {record.offset: record.body for record in await everything(log, topic)}
        assert {place.offset: b"%d" % number for number, place in enumerate(places)} == held

    async def test_appends_started_one_after_the_other_stand_in_that_order(self, log, new_topic):
        topic = await new_topic()
        async with asyncio.TaskGroup() as group:
            for number in range(100):
                group.create_task(log.append(topic, Message(b"%d" % number, key=b"k"), soon()))
        assert [b"%d" % number for number in range(100)] == [record.body for record in await everything(log, topic)]

    async def test_one_key_keeps_to_one_partition_in_order(self, log, new_topic):
        topic = await new_topic(partitions=3)
        keys = [b"key-%d" % number for number in range(12)]

        async def one(key: bytes) -> None:
            for number in range(5):
                await log.append(topic, Message(b"%d" % number, key=key), soon())

        await asyncio.gather(*map(one, keys))
        records = await everything(log, topic)
        assert len(keys) == len({(record.key, record.partition) for record in records})
        assert 1 < len({record.partition for record in records})
        for key in keys:
            assert [b"0", b"1", b"2", b"3", b"4"] == [record.body for record in records if record.key == key]

    async def test_keys_choose_the_partitions_that_kafka_chooses(self, log, new_topic):
        topic = await new_topic(partitions=3)
        chosen = {key: (await log.append(topic, Message(b"", key=key), soon())).partition for key in (b"bob", b"mia", b"ada")}
        assert {b"bob": 0, b"mia": 1, b"ada": 2} == chosen

    async def test_a_partition_that_is_told_is_taken_whatever_the_key(self, log, new_topic):
        topic = await new_topic(partitions=3)
        places = [
            await log.append(topic, Message(b"x", key=key), soon(), partition=partition)
            for partition in range(3)
            for key in (None, b"bob")
        ]
        assert [(0, 0), (0, 1), (1, 0), (1, 1), (2, 0), (2, 1)] == [(place.partition, place.offset) for place in places]

    async def test_a_partition_that_a_topic_does_not_have_is_refused_and_nothing_written(self, log, new_topic):
        topic = await new_topic(partitions=3)
        with pytest.raises(BackendError) as caught:
            await log.append(topic, Message(b"x"), soon(), partition=3)
        assert Reason.REFUSED == caught.value.reason
        assert {0: 0, 1: 0, 2: 0} == dict(await log.ends(topic))

    async def test_an_unknown_topic_is_refused(self, log):
        for asking in (log.starts(self.absent), log.ends(self.absent), log.append(self.absent, Message(b"x"), soon())):
            with pytest.raises(BackendError) as caught:
                await asking
            assert Reason.REFUSED == caught.value.reason

    async def test_a_record_too_large_is_refused_and_not_written(self, log, new_topic):
        topic = await new_topic()
        with pytest.raises(CallerError) as caught:
            await log.append(topic, Message(bytes(self.too_large)), soon())
        assert Reason.TOO_LARGE == caught.value.reason
        assert {0: 0} == dict(await log.ends(topic))

    async def test_a_deadline_that_has_passed_is_a_definite_failure(self, log, new_topic):
        topic = await new_topic()
        with pytest.raises(GatewayError) as caught:
            await log.append(topic, Message(b"late"), asyncio.get_running_loop().time() - 1)
        assert Outcome.FAILED == outcome_of(caught.value)
        await log.append(topic, Message(b"in time"), soon())
        assert [b"in time"] == [record.body for record in await everything(log, topic)]

    async def test_what_is_admitted_is_written_in_its_order(self, log, new_topic):
        topic = await new_topic()
        fates = [await log.admit(topic, Message(b"%d" % number), soon(), route="r") for number in range(50)]
        assert list(range(50)) == [(await fate).offset for fate in fates]
        assert [b"%d" % number for number in range(50)] == [record.body for record in await everything(log, topic)]

    async def test_what_can_be_told_at_once_is_told_before_a_record_is_admitted(self, log, new_topic):
        topic = await new_topic()
        for reason, admitting in (
            (Reason.REFUSED, log.admit(self.absent, Message(b"x"), soon())),
            (Reason.REFUSED, log.admit(topic, Message(b"x"), soon(), partition=1)),
            (Reason.TOO_LARGE, log.admit(topic, Message(bytes(self.too_large)), soon())),
        ):
            with pytest.raises(GatewayError) as caught:
                await admitting
            assert reason == caught.value.reason
        assert {0: 0} == dict(await log.ends(topic))

    async def test_several_records_are_written_together_and_their_places_told_in_order(self, log, new_topic):
        one, other = await new_topic(), await new_topic(partitions=3)
        await log.append(one, Message(b"before"), soon())
        posts = [
            Post(one, Message(b"0")),
            Post(other, Message(b"1", key=b"bob")),
            Post(other, Message(b"2"), 2),
            Post(one, Message(b"3")),
        ]
        places = await log.append_all(posts, soon())
        assert [(one, 0), (other, 0), (other, 2), (one, 0)] == [(place.topic, place.partition) for place in places]
        held = {}
        for topic, at, count in ((one, {0: 0}, 3), (other, {0: 0, 1: 0, 2: 0}, 2)):
            async with log.reading(topic, at) as reader:
                held |= {(topic, record.partition, record.offset): record.body for record in await take(reader, count)}
        assert [b"0", b"1", b"2", b"3"] == [held[place.topic, place.partition, place.offset] for place in places]
        assert [b"before", b"0", b"3"] == [held[at] for at in sorted(at for at in held if at[0] == one)]

    async def test_several_records_are_of_the_time_at_which_they_were_written(self, log, new_topic):
        topic = await new_topic()
        before = await log.append(topic, Message(b"before"), soon())
        (place,) = await log.append_all([Post(topic, Message(b"x"))], soon())
        assert before.timestamp <= place.timestamp <= before.timestamp + PATIENCE_S * 1000
        async with log.reading(topic, {0: place.offset}) as reader:
            assert [place.timestamp] == [record.timestamp for record in await take(reader, 1)]

    async def test_several_records_at_once_may_come_from_many(self, log, new_topic):
        topic = await new_topic()
        batches = [[Post(topic, Message(b"%d-%d" % (number, place))) for place in range(3)] for number in range(20)]
        await asyncio.gather(*(log.append_all(batch, soon()) for batch in batches))
        async with log.reading(topic, {0: 0}) as reader:
            held = [record.body for record in await take(reader, 60)]
        assert sorted(post.message.body for batch in batches for post in batch) == sorted(held)
        for number in range(20):
            assert [0, 1, 2] == [int(body.partition(b"-")[2]) for body in held if body.startswith(b"%d-" % number)]

    async def test_one_that_is_refused_takes_all_with_it(self, log, new_topic):
        topic = await new_topic()
        for reason, bad in (
            (Reason.REFUSED, Post(self.absent, Message(b"x"))),
            (Reason.REFUSED, Post(topic, Message(b"x"), 1)),
            (Reason.TOO_LARGE, Post(topic, Message(bytes(self.too_large)))),
        ):
            with pytest.raises(GatewayError) as caught:
                await log.append_all([Post(topic, Message(b"good")), bad], soon())
            assert (reason, Outcome.FAILED) == (caught.value.reason, outcome_of(caught.value))
        await log.append_all([Post(topic, Message(b"after"))], soon())
        async with log.reading(topic, {0: 0}) as reader:
            assert [b"after"] == [record.body for record in await take(reader, 1)]

    async def test_no_records_at_all_are_soon_written(self, log):
        assert [] == list(await log.append_all([], soon()))

    async def test_several_records_whose_deadline_has_passed_are_a_definite_failure(self, log, new_topic):
        topic = await new_topic()
        with pytest.raises(GatewayError) as caught:
            await log.append_all([Post(topic, Message(b"late"))], asyncio.get_running_loop().time() - 1)
        assert Outcome.FAILED == outcome_of(caught.value)

    async def test_an_append_whose_caller_has_gone_harms_no_other(self, log, new_topic):
        topic = await new_topic()
        async with asyncio.TaskGroup() as group:
            gone = group.create_task(log.append(topic, Message(b"gone"), soon()))
            stays = group.create_task(log.append(topic, Message(b"stays"), soon()))
            await asyncio.sleep(0)
            gone.cancel()
        held = await everything(log, topic)
        assert b"stays" == held[stays.result().offset].body
        assert {b"gone", b"stays"} >= {record.body for record in held}

    async def test_what_is_not_forgotten_of_a_compacted_topic_stays(self, log):
        topic = f"kept-{uuid4().hex}"
        for _ in range(2):
            await log.make_compacted(topic, 3600)
        for number in range(6):
            await log.append(topic, Message(b"%d" % number, key=b"%d" % number), soon())
        await log.forget(topic, [0, 2, 3])
        assert {0: 6} == dict(await log.ends(topic))
        bodies: set[bytes] = set()
        async with asyncio.timeout(PATIENCE_S), log.reading(topic, await log.starts(topic)) as reader:
            while dict(reader.at) != {0: 6}:
                bodies |= {record.body for record in await reader.read()}
        assert {b"1", b"4", b"5"} <= bodies

    async def test_a_topic_that_is_compacted_has_one_partition(self, log, new_topic):
        topic = await new_topic(partitions=3)
        with pytest.raises(BackendError) as caught:
            await log.make_compacted(topic, 3600)
        assert Reason.REFUSED == caught.value.reason

    async def test_reading_starts_where_it_is_told(self, log, new_topic):
        topic = await new_topic()
        await fill(log, topic, 5)
        async with log.reading(topic, {0: 3}) as reader:
            assert {0: 3} == dict(reader.at)
            assert [3, 4] == [record.offset for record in await take(reader, 2)]
            assert {0: 5} == dict(reader.at)

    async def test_reading_leaves_the_place_it_was_given_alone(self, log, new_topic):
        topic = await new_topic()
        await fill(log, topic, 1)
        at = {0: 0}
        async with log.reading(topic, at) as reader:
            await take(reader, 1)
        assert {0: 0} == at

    async def test_partitions_that_are_not_asked_for_are_not_read(self, log, new_topic):
        topic = await new_topic(partitions=3)
        for number in range(30):
            await log.append(topic, Message(b"x", key=b"%d" % number), soon())
        ends = await log.ends(topic)
        async with log.reading(topic, {1: 0}) as reader:
            assert {1} == {record.partition for record in await take(reader, ends[1])}
            assert {1: ends[1]} == dict(reader.at)

    async def test_a_reader_at_the_end_gets_what_comes(self, log, new_topic):
        topic = await new_topic()
        await fill(log, topic, 2)
        async with log.reading(topic, await log.ends(topic)) as reader, asyncio.TaskGroup() as group:
            reading = group.create_task(take(reader, 1))
            await asyncio.sleep(0)
            await log.append(topic, Message(b"new"), soon())
            assert [(2, b"new")] == [(record.offset, record.body) for record in await reading]

    async def test_a_reader_returns_with_nothing_rather_than_wait_for_ever(self, log, new_topic):
        topic = await new_topic()
        async with log.reading(topic, {0: 0}) as reader, asyncio.timeout(PATIENCE_S):
            assert [] == list(await reader.read())
            await log.append(topic, Message(b"x"), soon())
            assert [b"x"] == [record.body for record in await take(reader, 1)]

    async def test_a_reader_that_was_cancelled_reads_on_without_a_gap(self, log, new_topic):
        topic = await new_topic()
        async with log.reading(topic, {0: 0}) as reader:
            for number in range(5):
                async with asyncio.TaskGroup() as group:
                    reading = group.create_task(reader.read())
                    await asyncio.sleep(0)
                    reading.cancel()
                if not reading.cancelled():
                    continue
                at = reader.at[0]
                await log.append(topic, Message(b"%d" % number), soon())
                assert [at] == [record.offset for record in await take(reader, 1)]

    async def test_readers_do_not_disturb_each_other(self, log, new_topic):
        topic = await new_topic()
        await fill(log, topic, 10)
        async with log.reading(topic, {0: 0}) as one, log.reading(topic, {0: 0}) as other:
            expected = list(range(10))
            assert expected == [record.offset for record in await take(one, 10)]
            assert expected == [record.offset for record in await take(other, 10)]

    async def test_a_long_topic_is_read_in_bounded_batches(self, log, new_topic):
        topic = await new_topic()
        await asyncio.gather(*(log.append(topic, Message(b"%d" % number), soon()) for number in range(2 * MAX_BATCH)))
        offsets: list[int] = []
        async with log.reading(topic, {0: 0}) as reader, asyncio.timeout(PATIENCE_S):
            while len(offsets) < 2 * MAX_BATCH:
                records = await reader.read()
                assert MAX_BATCH >= len(records)
                offsets.extend(record.offset for record in records)
        assert list(range(2 * MAX_BATCH)) == offsets

    async def test_a_time_is_the_place_of_the_first_record_that_is_not_older(self, log, new_topic):
        topic = await new_topic()
        places = []
        for number in range(5):
            places.append(await log.append(topic, Message(b"%d" % number), soon()))
            await asyncio.sleep(0.005)  # so that their times differ, by any clock
        for place in places:
            assert {0: place.offset} == dict(await log.at(topic, place.timestamp))
            assert {0: place.offset + 1} == dict(await log.at(topic, place.timestamp + 1))
        assert {0: 0} == dict(await log.at(topic, 0)) == dict(await log.at(topic, -1))

    async def test_a_time_after_the_last_record_is_the_end(self, log, new_topic):
        topic = await new_topic(partitions=3)
        place = await log.append(topic, Message(b"x", key=b"bob"), soon())
        assert dict(await log.ends(topic)) == dict(await log.at(topic, place.timestamp + 1))
        assert {0: 0, 1: 0, 2: 0} == dict(await log.at(topic, place.timestamp))

    async def test_a_time_before_what_retention_has_left_is_the_start(self, log, overtaken):
        topic, first = overtaken
        assert {0: first} == dict(await log.at(topic, 0))

    async def test_a_time_in_an_unknown_topic_is_refused(self, log):
        with pytest.raises(BackendError) as caught:
            await log.at(self.absent, 0)
        assert Reason.REFUSED == caught.value.reason

    async def test_starts_tell_what_retention_has_left(self, log, overtaken):
        topic, first = overtaken
        assert {0: first} == dict(await log.starts(topic))
        assert first == (await everything(log, topic))[0].offset

    async def test_a_place_that_retention_has_overtaken_is_gone(self, log, overtaken):
        topic, first = overtaken
        with pytest.raises(CallerError) as caught:
            async with log.reading(topic, {0: first - 1}) as reader, asyncio.timeout(PATIENCE_S):
                await take(reader, 1)
        assert Reason.INVALID == caught.value.reason


class Seen:
    """A `deliver` that keeps what it got."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self._more = asyncio.Event()

    async def __call__(self, record: Record, turn: Turn) -> None:
        async with turn:
            self.add(record)

    def add(self, record: Record) -> None:
        """Keep one that somebody else was given."""
        self.records.append(record)
        self._more.set()

    async def reach(self, count: int) -> Sequence[bytes]:
        """Wait for `count` records; their bodies."""
        async with asyncio.timeout(PATIENCE_S):
            while len(self.records) < count:
                self._more.clear()
                await self._more.wait()
        return [record.body for record in self.records]


def trying(handle: Callable[[Record], Awaitable[None]]) -> Deliver:
    """A `deliver` that has one way with every record."""

    async def deliver(record: Record, turn: Turn) -> None:
        async with turn:
            await handle(record)

    return deliver


class SourceContract:
    """Run against anything that says it is a `Source`."""

    @pytest.fixture
    async def source(self) -> Source:
        """Yield the source, connected."""
        raise NotImplementedError

    @pytest.fixture
    async def new_topic(self) -> NewTopic:
        """Return the maker of topics."""
        raise NotImplementedError

    @staticmethod
    async def produce(source: Source, topic: str, *bodies: bytes, key: bytes | None = b"k") -> None:
        for body in bodies:
            await source.produce(topic, Message(body, key=key))

    async def test_every_record_is_delivered_in_order(self, source, new_topic):
        topic = await new_topic()
        await self.produce(source, topic, b"0", b"1", b"2")
        seen = Seen()
        async with source.consuming(Subscription((topic,), f"{topic}-g"), seen):
            assert [b"0", b"1", b"2"] == await seen.reach(3)
            await self.produce(source, topic, b"3")
            assert [b"0", b"1", b"2", b"3"] == await seen.reach(4)
        assert [(topic, 0, offset, b"k") for offset in range(4)] == [
            (record.topic, record.partition, record.offset, record.key) for record in seen.records
        ]

    async def test_several_topics_are_consumed_at_once(self, source, new_topic):
        topics = (await new_topic(), await new_topic(partitions=3))
        for topic in topics:
            await self.produce(source, topic, topic.encode())
        seen = Seen()
        async with source.consuming(Subscription(topics, f"{topics[0]}-g"), seen):
            assert {topic.encode() for topic in topics} == set(await seen.reach(2))

    async def test_what_has_returned_is_not_delivered_again(self, source, new_topic):
        topic = await new_topic()
        await self.produce(source, topic, b"0", b"1")
        first, second = Seen(), Seen()
        async with source.consuming(Subscription((topic,), f"{topic}-g"), first):
            await first.reach(2)
        await self.produce(source, topic, b"2")
        async with source.consuming(Subscription((topic,), f"{topic}-g"), second):
            assert [b"2"] == await second.reach(1)

    async def test_groups_do_not_disturb_each_other(self, source, new_topic):
        topic = await new_topic()
        await self.produce(source, topic, b"0", b"1")
        one, other = Seen(), Seen()
        async with (
            source.consuming(Subscription((topic,), f"{topic}-one"), one),
            source.consuming(Subscription((topic,), f"{topic}-other"), other),
        ):
            assert [b"0", b"1"] == await one.reach(2)
            assert [b"0", b"1"] == await other.reach(2)

    async def test_a_new_group_that_starts_at_latest_gets_what_comes(self, source, new_topic):
        topic = await new_topic()
        await self.produce(source, topic, b"old")
        seen = Seen()
        async with source.consuming(Subscription((topic,), f"{topic}-g", "latest"), seen):
            # Where the end is may be found out a little later than entering: only what comes after the first one seen is certain.
            async with asyncio.timeout(PATIENCE_S):
                while not seen.records:
                    await self.produce(source, topic, b"new")
                    with suppress(TimeoutError):
                        async with asyncio.timeout(0.2):
                            await seen.reach(1)
        assert {b"new"} == {record.body for record in seen.records}

    async def test_a_record_whose_delivery_failed_comes_again(self, source, new_topic):
        topic = await new_topic()
        await self.produce(source, topic, b"0", b"1")
        tried = asyncio.Event()

        async def failing(record: Record) -> None:
            tried.set()
            raise RuntimeError("no")

        async with source.consuming(Subscription((topic,), f"{topic}-g"), trying(failing)), asyncio.timeout(PATIENCE_S):
            await tried.wait()
        seen = Seen()
        async with source.consuming(Subscription((topic,), f"{topic}-g"), seen):
            assert [b"0", b"1"] == await seen.reach(2)

    async def test_a_record_waits_for_the_one_before_it(self, source, new_topic):
        topic = await new_topic()
        await self.produce(source, topic, b"0", b"1")
        running = 0
        seen = Seen()

        async def deliver(record: Record) -> None:
            nonlocal running
            running += 1
            assert running == 1
            await asyncio.sleep(0)
            running -= 1
            seen.add(record)

        async with source.consuming(Subscription((topic,), f"{topic}-g"), trying(deliver)):
            assert [b"0", b"1"] == await seen.reach(2)

    async def test_a_slow_partition_does_not_hold_up_another(self, source, new_topic):
        topic = await new_topic(partitions=3)
        await self.produce(source, topic, b"stuck", b"after", key=b"ada")
        await self.produce(source, topic, b"free", key=b"bob")
        release = asyncio.Event()
        seen = Seen()

        async def deliver(record: Record) -> None:
            if record.body == b"stuck":
                await release.wait()
            seen.add(record)

        async with source.consuming(Subscription((topic,), f"{topic}-g"), trying(deliver)):
            assert [b"free"] == await seen.reach(1)
            release.set()
            assert [b"free", b"stuck", b"after"] == await seen.reach(3)

    async def test_records_of_a_key_keep_their_order_and_do_not_wait_for_those_of_another(self, source, new_topic):
        topic = await new_topic()
        for number in range(3):
            await self.produce(source, topic, b"ada %d" % number, key=b"ada")
            await self.produce(source, topic, b"bob %d" % number, key=b"bob")
        release = asyncio.Event()
        seen = Seen()

        async def deliver(record: Record) -> None:
            if record.key == b"ada":
                await release.wait()
            seen.add(record)

        subscription = Subscription((topic,), f"{topic}-g", order="key", parallel=2)
        async with source.consuming(subscription, trying(deliver)):
            assert [b"bob 0", b"bob 1", b"bob 2"] == await seen.reach(3)
            release.set()
            await seen.reach(6)
        assert [b"ada 0", b"ada 1", b"ada 2"] == [record.body for record in seen.records[3:]]

    async def test_a_record_that_is_not_done_with_comes_again_though_those_behind_it_are(self, source, new_topic):
        topic = await new_topic()
        await self.produce(source, topic, b"0", b"1", b"2", b"3")
        seen = Seen()

        async def deliver(record: Record, turn: Turn) -> None:
            if record.offset == 1:
                await asyncio.Event().wait()
            await seen(record, turn)

        subscription = Subscription((topic,), f"{topic}-g", order="none", parallel=4)
        async with source.consuming(subscription, deliver):
            assert {b"0", b"2", b"3"} == set(await seen.reach(3))
        again = Seen()
        await self.produce(source, topic, b"4")
        async with source.consuming(subscription, again), asyncio.timeout(PATIENCE_S):
            while not {b"1", b"4"} <= {record.body for record in again.records}:
                await again.reach(len(again.records) + 1)
        assert b"0" not in {record.body for record in again.records}

    async def test_a_partition_is_read_no_further_ahead_than_told(self, source, new_topic):
        topic = await new_topic()
        await asyncio.gather(*(self.produce(source, topic, b"%d" % number) for number in range(1500)))
        release = asyncio.Event()
        seen = Seen()

        async def deliver(record: Record, turn: Turn) -> None:
            seen.add(record)
            async with turn:
                await release.wait()

        subscription = Subscription((topic,), f"{topic}-g", order="none", parallel=1000, ahead=Ahead(records=10))
        async with source.consuming(subscription, deliver):
            await seen.reach(10)
            # Long enough for another batch to be read, if it were.
            await asyncio.sleep(0.7)
            assert len(seen.records) < MAX_BATCH
            release.set()
            assert 1500 == len(await seen.reach(1500))

    async def test_the_lag_is_what_is_not_done_with_yet(self, source, new_topic):
        topic = await new_topic()
        await self.produce(source, topic, b"0", b"1", b"2", b"3")
        release = asyncio.Event()

        async def deliver(record: Record) -> None:
            if record.offset == 1:
                await release.wait()

        def lag() -> float | None:
            return LAG.values().get(("mine", topic, "0"))

        async with source.consuming(Subscription((topic,), f"{topic}-g", listener="mine"), trying(deliver)):
            async with asyncio.timeout(PATIENCE_S):
                while lag() != 3:  # noqa: ASYNC110  a gauge tells nobody
                    await asyncio.sleep(0.01)
                release.set()
                while lag() != 0:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
        assert lag() is None

    async def test_leaving_does_not_wait_for_a_record_that_waits_to_be_tried_again(self, source, new_topic):
        topic = await new_topic()
        await self.produce(source, topic, b"0")
        waiting = asyncio.Event()

        async def deliver(_record: Record, turn: Turn) -> None:
            async with turn:
                waiting.set()
            await asyncio.Event().wait()

        async with asyncio.timeout(PATIENCE_S), source.consuming(Subscription((topic,), f"{topic}-g"), deliver):
            await waiting.wait()
        seen = Seen()
        async with source.consuming(Subscription((topic,), f"{topic}-g"), seen):
            assert [b"0"] == await seen.reach(1)

    async def test_leaving_finishes_what_is_being_delivered_and_commits_it(self, source, new_topic):
        topic = await new_topic()
        await self.produce(source, topic, b"0", b"1")
        started, release, finished = asyncio.Event(), asyncio.Event(), asyncio.Event()

        async def slow(record: Record) -> None:
            started.set()
            await release.wait()
            finished.set()

        async with asyncio.timeout(PATIENCE_S), asyncio.TaskGroup() as group:
            leaving = asyncio.Event()
            consumer = group.create_task(self._consume_until(source, topic, trying(slow), leaving))
            await started.wait()
            leaving.set()
            await asyncio.sleep(0.05)
            assert not consumer.done()
            release.set()
        assert finished.is_set()
        seen = Seen()
        async with source.consuming(Subscription((topic,), f"{topic}-g"), seen):
            assert [b"1"] == await seen.reach(1)

    @staticmethod
    async def _consume_until(source: Source, topic: str, deliver, leaving: asyncio.Event) -> None:
        async with source.consuming(Subscription((topic,), f"{topic}-g"), deliver):
            await leaving.wait()

    async def test_consuming_may_begin_and_end_without_a_record(self, source, new_topic):
        topic = await new_topic()
        seen = Seen()
        async with asyncio.timeout(PATIENCE_S), source.consuming(Subscription((topic,), f"{topic}-g"), seen):
            pass
        assert [] == seen.records

    async def test_what_is_produced_is_acknowledged(self, source, new_topic):
        topic = await new_topic()
        with pytest.raises(CallerError) as caught:
            await source.produce(topic, Message(bytes(2 << 20)))
        assert Reason.TOO_LARGE == caught.value.reason
