"""What a broker's answer to a batch means, for each that it may give: those that no broker can be made to give included."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from types import SimpleNamespace

import pytest

from adapters.backend.kafka.courier import Couriers
from adapters.backend.kafka.sending import Budget, Lane, Sending
from adapters.backend.kafka.settlement import LATE
from adapters.backend.kafka.wire import Settings
from gateway.errors import BackendError, GatewayError, Reason
from gateway.message import Message
from gateway.topic.log import Place

OK = 0
TOO_LARGE, NOT_LEADER, TIMED_OUT, NOT_ENOUGH, AFTER_APPEND = 10, 6, 7, 19, 20
NOT_ALLOWED, OUT_OF_ORDER, UNKNOWN_PRODUCER, INVALID_RECORD, UNKNOWN = 29, 45, 59, 87, -1
NODE = 1
# Where a batch says how many records it has.
COUNT_AT = 57
IDENTITY_AT = 43


class FakeCluster:
    """One broker that answers by a script: an error code for each request, or an exception; `sent` is what went out."""

    def __init__(self, script: Iterable[int | Exception]) -> None:
        self.script = list(script)
        self.here = frozenset({NODE})
        self.turned = asyncio.Event()
        self.sent: list[bytes] = []
        self.refused: bytes | None = None
        """What makes a broker take nothing of a batch that has it."""
        self.identities = 0
        self.asked: list[Exception] = []
        """What goes wrong when it is asked for identities."""
        self.offset = 0

    def broker(self, _node: int) -> FakeCluster:
        return self

    async def ask(self, _request: object) -> SimpleNamespace:
        if self.asked:
            raise self.asked.pop(0)
        self.identities += 1
        return SimpleNamespace(error_code=0, producer_id=self.identities, producer_epoch=0)

    async def ready(self, _within: float) -> None:
        await asyncio.sleep(0)

    async def produce(self, request, _within, sent):
        ((topic, ((partition, buffer),)),) = request._topics
        said = self.script.pop(0) if self.script else OK
        if self.refused is not None and self.refused in bytes(buffer):
            said = INVALID_RECORD
        if not isinstance(said, ConnectionRefusedError):
            sent()
            self.sent.append(bytes(buffer))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        if isinstance(said, Exception):
            raise said
        offset = self.offset
        if said == OK:
            self.offset += int.from_bytes(buffer[COUNT_AT : COUNT_AT + 4])
        return SimpleNamespace(topics=[(topic, [(partition, said, offset, -1, 0)])])


def numbered(batch: bytes) -> tuple[int, int]:
    """Under which identity, and from which number on, the records of a batch are."""
    return int.from_bytes(batch[IDENTITY_AT : IDENTITY_AT + 8]), int.from_bytes(batch[COUNT_AT - 4 : COUNT_AT])


class Rig:
    """A lane, its couriers, and a broker that follows a script."""

    def __init__(self, *script: int | Exception, name: str = "rig") -> None:
        self.cluster = FakeCluster(script)
        self.budget = Budget(1 << 20)
        self.stale: list[str] = []
        settings = Settings(seeds=(), wire={}, client={}, name=name)
        self.couriers = Couriers(settings, self.cluster, self.budget, self.stale.append)
        self.lane = Lane("t", 0, NODE, 64 << 10)

    async def __aenter__(self):
        await self.couriers.__aenter__()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.couriers.__aexit__()

    def put(self, body: bytes) -> Sending:
        one = Sending(Message(body), "r")
        one.place = asyncio.get_running_loop().create_future()
        one.lane = self.lane
        one.slot = {one}
        self.budget.take(one)
        self.lane.put(one)
        if not self.lane.busy:
            self.couriers.offer(self.lane)
        return one

    async def fate(self, body: bytes = b"x") -> Place | Reason:
        """What becomes of one record."""
        try:
            return await self.put(body).place
        except GatewayError as error:
            return error.reason

    async def done(self) -> None:
        await self.budget.empty.wait()


async def until(true) -> None:
    """Let the loop turn until something is so."""
    while not true():  # noqa: ASYNC110  it does not come by an event, and a turn is enough
        await asyncio.sleep(0)


async def test_a_record_that_is_acknowledged_has_its_place():
    async with Rig(OK) as rig:
        place = await rig.fate()
        assert ("t", 0, 0) == (place.topic, place.partition, place.offset)
        assert (0, 0) == (rig.budget.held, rig.budget.flying)


@pytest.mark.parametrize("code", [NOT_LEADER, TIMED_OUT, AFTER_APPEND])
async def test_what_may_have_been_written_is_sent_again_as_it_was(code):
    async with Rig(code, code, OK) as rig:
        assert isinstance(await rig.fate(), Place)
        assert 3 == len(rig.cluster.sent)
        assert 1 == len(set(rig.cluster.sent))
        assert {"t"} == set(rig.stale)


async def test_what_went_out_on_a_connection_that_broke_is_sent_again_as_it_was():
    async with Rig(ConnectionResetError(), TimeoutError(), OK) as rig:
        assert isinstance(await rig.fate(), Place)
        assert 1 == len(set(rig.cluster.sent))


async def test_what_goes_out_is_sent_again_as_it_was_though_it_fails_as_nobody_has_foreseen():
    async with Rig(LookupError(), OK) as rig:
        assert isinstance(await rig.fate(), Place)
        assert 2 == len(rig.cluster.sent)
        assert 1 == len(set(rig.cluster.sent))


@pytest.mark.parametrize("trouble", [RuntimeError("the handler is closed"), LookupError()])
async def test_records_go_out_though_asking_for_an_identity_fails_as_nobody_has_foreseen(trouble):
    async with Rig(OK) as rig:
        rig.cluster.asked = [trouble]
        assert isinstance(await rig.fate(), Place)


@pytest.mark.parametrize("said", [NOT_ENOUGH, ConnectionRefusedError()])
async def test_what_was_certainly_not_written_is_sent_without_those_who_have_left(said):
    async with Rig(said, OK) as rig:
        gone, stays = rig.put(b"gone"), rig.put(b"stays")
        await until(lambda: gone.handed)
        gone.place.cancel()
        assert 0 == (await stays.place).offset
        assert b"gone" not in rig.cluster.sent[-1]
        await rig.done()


async def test_what_may_have_been_written_goes_whole_though_its_callers_have_left_and_its_fate_is_counted():
    async with Rig(ConnectionResetError(), OK, name="left") as rig:
        gone = rig.put(b"gone")
        await until(lambda: rig.cluster.sent)
        gone.place.set_exception(BackendError(Reason.UNKNOWN_OUTCOME, "told"))
        await rig.done()
        assert 2 == len(rig.cluster.sent)
        assert 1 == LATE.values()["left", "acknowledged"]
        assert Reason.UNKNOWN_OUTCOME == gone.place.exception().reason


@pytest.mark.parametrize("code", [OUT_OF_ORDER, UNKNOWN_PRODUCER])
async def test_a_lost_sequence_is_begun_anew_with_what_was_refused(code):
    async with Rig(OK, code, OK) as rig:
        await rig.fate(b"first")
        assert isinstance(await rig.fate(b"second"), Place)
        assert 2 == rig.cluster.identities
        assert b"second" in rig.cluster.sent[1]
        assert b"second" in rig.cluster.sent[2]


async def test_a_lost_sequence_of_what_may_have_been_written_is_unknown_and_those_behind_it_go_on():
    async with Rig(ConnectionResetError(), OUT_OF_ORDER, OK) as rig:
        first = rig.put(b"first")
        await until(lambda: rig.cluster.sent)
        second = rig.put(b"second")
        with pytest.raises(BackendError) as caught:
            await first.place
        assert Reason.UNKNOWN_OUTCOME == caught.value.reason
        await second.place
        assert 2 == rig.cluster.identities
        assert b"first" not in rig.cluster.sent[2]


@pytest.mark.parametrize(
    ("code", "reason"), [(NOT_ALLOWED, Reason.REFUSED), (INVALID_RECORD, Reason.REFUSED), (TOO_LARGE, Reason.TOO_LARGE)]
)
async def test_what_the_broker_does_not_take_is_refused_once_and_the_next_goes_on(code, reason):
    async with Rig(code, OK) as rig:
        assert reason == await rig.fate()
        assert isinstance(await rig.fate(), Place)
        assert 2 == len(rig.cluster.sent)


async def test_what_may_have_been_written_by_a_try_before_is_not_a_failure_because_of_the_next():
    async with Rig(NOT_LEADER, NOT_ALLOWED) as rig:
        assert Reason.UNKNOWN_OUTCOME == await rig.fate()


async def test_a_broker_that_does_not_know_what_is_wrong_leaves_it_unknown():
    async with Rig(OK, UNKNOWN, OK) as rig:
        await rig.fate()
        assert Reason.UNKNOWN_OUTCOME == await rig.fate()
        assert isinstance(await rig.fate(), Place)
        # Under the same number the broker could take the third record for the first.
        assert [(1, 0), (1, 1), (2, 0)] == [numbered(sent) for sent in rig.cluster.sent]


async def test_records_are_numbered_on_under_one_identity():
    async with Rig() as rig:
        for _ in range(3):
            await rig.fate()
        assert [(1, 0), (1, 1), (1, 2)] == [numbered(sent) for sent in rig.cluster.sent]


async def test_a_record_that_cannot_be_packed_ends_alone():
    async with Rig() as rig:
        broken = rig.put(b"broken")
        broken.key = "no bytes"
        with pytest.raises(GatewayError) as caught:
            await broken.place
        assert Reason.BUG == caught.value.reason
        assert isinstance(await rig.fate(), Place)
        assert (0, 0) == (rig.budget.held, rig.budget.flying)


async def test_a_batch_that_is_too_large_is_cut_until_it_fits():
    async with Rig(TOO_LARGE, TOO_LARGE) as rig:
        records = [rig.put(b"%d" % number + bytes(1000)) for number in range(8)]
        places = await asyncio.gather(*(one.place for one in records))
        assert [*range(8)] == [place.offset for place in places]
        assert [8, 4, 2, 2, 2, 2] == [len(sent) // 1000 for sent in rig.cluster.sent]


async def test_one_record_that_the_broker_refuses_takes_none_of_its_batch_with_it():
    async with Rig() as rig:
        rig.cluster.refused = b"bad"
        records = [rig.put(b"bad" if number == 11 else b"%d" % number) for number in range(16)]
        fates = await asyncio.gather(*(one.place for one in records), return_exceptions=True)
        assert [11] == [number for number, fate in enumerate(fates) if isinstance(fate, GatewayError)]
        assert Reason.REFUSED == fates[11].reason
        assert [*range(15)] == [fate.offset for fate in fates if isinstance(fate, Place)]
        assert 16 > len(rig.cluster.sent), "fewer than one by one"
        assert (0, 0) == (rig.budget.held, rig.budget.flying)


async def test_nothing_goes_out_while_the_broker_is_away_and_all_of_it_once_it_is_back():
    async with Rig() as rig:
        rig.cluster.here = frozenset()
        records = [rig.put(b"%d" % number) for number in range(5)]
        for _ in range(10):
            await asyncio.sleep(0)
        assert ([], [False] * 5) == (rig.cluster.sent, [one.handed for one in records])
        turned, rig.cluster.turned = rig.cluster.turned, asyncio.Event()
        rig.cluster.here = frozenset({NODE})
        turned.set()
        await asyncio.gather(*(one.place for one in records))
        assert 1 == len(rig.cluster.sent)


async def test_a_lane_whose_leader_is_away_goes_to_the_next():
    async with Rig() as rig:
        rig.lane.leader = 2
        waiting = rig.put(b"x")
        await asyncio.sleep(0)
        rig.couriers.move(rig.lane, NODE)
        assert 0 == (await waiting.place).offset


@pytest.mark.parametrize("offered", [False, True], ids=["while it pauses", "while it waits for its broker"])
async def test_a_lane_that_is_closed_while_its_broker_is_away_for_good_leaves_nothing_behind(offered):
    async with Rig(TimeoutError()) as rig:
        sent = rig.put(b"sent")
        await until(lambda: rig.cluster.sent)
        rig.cluster.here = frozenset()
        await until(lambda: rig.stale)
        if offered:
            rig.couriers.offer(rig.lane)
        rig.couriers.close(rig.lane, BackendError(Reason.REFUSED, "there is no such topic"))
        with pytest.raises(GatewayError) as caught:
            await sent.place
        assert Reason.UNKNOWN_OUTCOME == caught.value.reason
        assert (0, 0) == (rig.budget.held, rig.budget.flying)


async def test_a_lane_that_is_closed_ends_what_waits_and_what_comes_back():
    async with Rig(NOT_ENOUGH) as rig:
        first = rig.put(b"first")
        await until(lambda: first.handed)
        second = rig.put(b"second")
        rig.couriers.close(rig.lane, BackendError(Reason.REFUSED, "there is no such topic"))
        for one in (first, second):
            with pytest.raises(BackendError) as caught:
                await one.place
            assert Reason.REFUSED == caught.value.reason
        assert 0 == rig.budget.held
