"""Writing once for each idempotency key, whoever asks, however often, on whichever gateway and after whatever crash.

An attempt claims its key in the gateway's state, with the ends of its topics; then it writes records that are marked with the
key; then it keeps their receipts in place of the claim. Whoever comes meanwhile waits for that. Where an attempt has left its
claim behind, the topics are searched from the ends for the marked records: what is found is what was written. Where nothing is
found the key is tried again only after a time, for a record that was handed to a broker may come late.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace

from gateway.errors import BackendError, CallerError, Reason, translating
from gateway.exchange import Call, new_id
from gateway.message import Message
from gateway.metric import Counter
from gateway.state import State
from gateway.target import Spool, Target
from gateway.task import Tasks
from gateway.topic.attempt import MARK, Attempt, read
from gateway.topic.claim import UNDER_WAY_STILL, Claims
from gateway.topic.idempotency import Idempotency, fingerprint, keyed
from gateway.topic.log import Log, Offsets, Post
from gateway.topic.write import DEFAULT_S, Receipt, Write

log = logging.getLogger("polygate")

MARGIN_S = 5.0
"""How much longer than its own deadline an attempt is left alone by others."""
ENDS_S = 5.0
ENDS = 1000
UNDER_WAY = 10_000

REPLAYED = Counter("polygate_idempotency_replayed", "Answers that were a receipt of before.", "route")
JOINED = Counter("polygate_idempotency_joined", "Calls that waited for an attempt with their key.", "route")
CONFLICTS = Counter("polygate_idempotency_conflicts", "Calls whose key was used for something else.", "route")
TAKEN_OVER = Counter("polygate_idempotency_taken_over", "Keys that were tried again, since nothing was found of them.", "route")

Attempting = Callable[[Sequence[Post]], Awaitable[Sequence[Receipt]]]
"""Write some records, once; their receipts in the same order."""


def once(write: Write, source: Log, target: Target, spec: Idempotency, tasks: Tasks) -> Write:
    """A `Write` that writes once for each key. What is written outlives its caller, in `tasks`."""
    assert target.state is not None  # noqa: S101  the target needs it, so it was given
    key_of, keys = keyed(target, spec), Once(source, target.state, target.route, spec, tasks, target.spool)

    async def run(call: Call, topic: str, record: Message, partition: int | None) -> Receipt:
        key = key_of(call, record)
        if key is None:
            return await write(call, topic, record, partition)

        async def attempt(posts: Sequence[Post]) -> Sequence[Receipt]:
            return [await write(call, post.topic, post.message, post.partition) for post in posts]

        (receipt,) = await keys.run(call, key, (Post(topic, record, partition),), attempt)
        return receipt

    return run


class _Turn:
    """The calls with one key in this process. One at a time asks the state and writes, for were all to claim a key whenever an
    attempt has failed, a thousand of them would cost half a million claims.
    """

    __slots__ = ("calls", "lock", "whose")

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.calls = 0
        self.whose: str | None = None
        """The fingerprint of what the key is used for now, once that is known."""

    def compare(self, attempt: Attempt, route: str) -> None:
        """Refuse one that uses the key for something else."""
        if self.whose not in {None, attempt.fingerprint}:
            CONFLICTS.add(1, route)
            raise CallerError(Reason.INVALID, "this Idempotency-Key was used for another message")


class Once:
    """The keys of one route."""

    under_way = 0
    """How many calls there are, of all routes: those whose callers have gone hold no slot of anybody else's any more."""

    def __init__(
        self, source: Log, state: State, route: str, spec: Idempotency, tasks: Tasks, spool: Spool | None = None
    ) -> None:
        """`spool`: where records may wait that are not in their topic yet."""
        self._spool = spool
        self._claims = Claims(source, state, route, spec)
        self._log = source
        self._route = route
        self._tasks = tasks
        self._turns: dict[str, _Turn] = {}
        self._ends: OrderedDict[str, tuple[float, Offsets]] = OrderedDict()

    async def run(self, call: Call, key: str, posts: Sequence[Post], attempt: Attempting) -> Sequence[Receipt]:
        """Write these for a key or, where that was done, the receipts of then. It goes on where its caller has gone."""
        if Once.under_way >= UNDER_WAY:
            raise BackendError(Reason.OVERLOADED, "too many calls with an Idempotency-Key are under way")
        done: asyncio.Future[Sequence[Receipt]] = asyncio.get_running_loop().create_future()

        async def running() -> None:
            try:
                receipts = await self._run(call, key, posts, attempt)
            except asyncio.CancelledError:
                done.cancel()
                raise
            except Exception as error:  # noqa: BLE001  it is the caller's, who waits for it
                if not done.done():
                    done.set_exception(error)
                else:
                    log.info("exchange %s, whose caller has gone, has failed: %r", call.id, error)
            else:
                if not done.done():
                    done.set_result(receipts)

        def ended(_task: object) -> None:
            Once.under_way -= 1
            done.cancel()  # it was, before it began

        Once.under_way += 1
        self._tasks.spawn(running(), f"exchange {call.id}").add_done_callback(ended)
        return await done

    async def _run(self, call: Call, key: str, posts: Sequence[Post], attempt: Attempting) -> Sequence[Receipt]:
        due = call.due(DEFAULT_S)
        marked = [replace(post, message=_marked(post.message, key, number)) for number, post in enumerate(posts)]
        mine = Attempt(fingerprint(posts), new_id(), due - _now() + MARGIN_S, since=await self._since(posts))
        turn = self._turns.setdefault(key, _Turn())
        turn.calls += 1
        try:
            if turn.lock.locked():
                turn.compare(mine, self._route)
                JOINED.add(1, self._route)
            with translating((TimeoutError, Reason.UNKNOWN_OUTCOME, UNDER_WAY_STILL)):
                async with asyncio.timeout_at(due):
                    await turn.lock.acquire()
            try:
                return await self._claimed(key, turn, mine, due, lambda: attempt(marked), len(marked))
            finally:
                turn.whose = None
                turn.lock.release()
        finally:
            turn.calls -= 1
            if not turn.calls:
                del self._turns[key]

    async def _claimed(
        self,
        key: str,
        turn: _Turn,
        mine: Attempt,
        due: float,
        write: Callable[[], Awaitable[Sequence[Receipt]]],
        count: int,
    ) -> Sequence[Receipt]:
        """Write once the key is ours, unless it turns out that somebody has."""
        claims = self._claims
        over: bytes | None = None
        waited = False
        while True:
            there = await claims.claim(key, mine, over)
            if there is None:
                turn.whose = mine.fingerprint
                return await claims.write(key, mine, write)
            other = read(there)
            turn.whose = other.fingerprint
            turn.compare(mine, self._route)
            receipts = other.receipts or await claims.found(key, there, other, count, due)
            if receipts:
                REPLAYED.add(1, self._route)
                return [replace(receipt, replayed=True) for receipt in receipts]
            over = None
            if claims.free(key, there, other):
                if self._spool is not None and self._spool.waits:
                    # Its record may be among those: once they are forwarded it is found.
                    text = "whether an attempt with this Idempotency-Key has stored its record is known once all is forwarded"
                    raise BackendError(Reason.UNKNOWN_OUTCOME, text)
                TAKEN_OVER.add(1, self._route)
                over, mine = there, replace(mine, since=other.since)
                continue
            if other.doubt:
                raise BackendError(Reason.UNKNOWN_OUTCOME, "an attempt with this Idempotency-Key has ended in doubt")
            if not waited:
                waited = True
                JOINED.add(1, self._route)
            await claims.wait(key, there, min(due, _now() + claims.left(key, there, other)), due)

    async def _since(self, posts: Sequence[Post]) -> Mapping[str, Offsets]:
        """Where the records can stand at the earliest: the ends of their topics, as they were a moment ago or earlier."""
        return {topic: await self._end(topic) for topic in {post.topic: None for post in posts}}

    async def _end(self, topic: str) -> Offsets:
        known = self._ends.get(topic)
        if known is None or known[0] < _now():
            try:
                ends = await self._log.ends(topic)
            except BackendError as error:
                # Where it is away, what is kept is told all the same, and records may be stored until it is back. An older end is
                # as good, but for a longer search; and so is none.
                if error.reason is Reason.REFUSED:
                    raise
                return {} if known is None else known[1]
            while len(self._ends) >= ENDS:
                self._ends.popitem(last=False)
            known = self._ends[topic] = (_now() + ENDS_S, ends)
        return known[1]


def _now() -> float:
    return asyncio.get_running_loop().time()


def _marked(message: Message, key: str, number: int) -> Message:
    return Message(message.body, message.content_type, message.key, message.headers.plus((MARK, f"{key}.{number}")))
