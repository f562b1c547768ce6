"""Several processes of one config on the same ports. Each is a whole gateway; one more process, this one, looks after them.

It holds their listening sockets, a set for each worker (SO_REUSEPORT), so that a connection to a worker that has died waits for
the one that takes its place; and it knows what each has counted, so that no counter goes back.
"""

from __future__ import annotations

import asyncio
import logging
import random
import signal
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from gateway.bind import Address
from gateway.channel import GoneError
from gateway.exposition import families
from gateway.metric import Counter, Gauge
from gateway.supervisor.seat import Seat
from gateway.systemd import notify, reloading
from gateway.task import Tasks
from gateway.total import Families, Totals, read, total

log = logging.getLogger("polygate")

NOT_STARTED = 3
LOOK_S = 1.0
"""How often each worker is asked for its numbers: what it counted since, when it is killed, is lost."""
ANSWER_S = 2.0
RELOAD_S = 60.0
OUTCOMES = ("refused", "busy", "stopping", "changed", "unchanged")
"""What may come of a reload; the first that any worker says is what is told."""
LOADED = {"changed", "unchanged"}
FIRST_PAUSE_S = 0.1
MAX_PAUSE_S = 10.0
STEADY_S = 30.0
"""After a worker that has lived so long, the next starts without the pauses of those before."""
LATE_S = 5.0
"""What workers get beyond their drain until they are killed."""

RESTARTS = Counter("polygate_worker_restarts", "Workers that have died, another of which took the place.", "worker")
UP = Gauge("polygate_workers", "Workers that serve.")


class Supervisor:
    """See the module."""

    def __init__(self, seats: Sequence[Seat], drain: float, started: Callable[[Mapping[str, Address]], None]) -> None:
        """`drain`: the seconds within which a worker ends after SIGTERM. `started` is called once all listen, with where."""
        self._seats = seats
        self._drain = drain
        self._started = started
        self._totals = Totals()
        self._first = asyncio.Event()
        self._all = False
        self._stopping = asyncio.Event()
        self._code = 0
        self._answers: Mapping[str, Callable[[Seat, Any], Awaitable[object]]] = {
            "ready": self._ready,
            "binds": self._binds,
            "metrics": self._metrics,
            "readiness": self._readiness,
            "reload": self._reload,
        }
        self._tasks = Tasks()
        self._loading = asyncio.Lock()
        self._again = False
        """They are to load the config, and have not begun to."""

    async def run(self) -> int:
        """Run the workers until `stop`. Returns 0, or the exit code of one that could not start at first; it has said why."""
        stop_watching = UP.watch(lambda: sum(seat.up for seat in self._seats))
        try:
            async with self._tasks, asyncio.TaskGroup() as group:
                looking = group.create_task(self._look())
                keeping = [group.create_task(self._keep(seat)) for seat in self._seats]
                await self._stopping.wait()
                _, late = await asyncio.wait(keeping, timeout=self._drain + LATE_S)
                if late:
                    log.error("%d workers have not ended in time, and are killed", len(late))
                    self.signal(signal.SIGKILL)
                    await asyncio.wait(late)
                looking.cancel()
        finally:
            stop_watching()
        return self._code

    def stop(self) -> None:
        """Let the workers end; called again, without waiting for what they have under way."""
        if not self._stopping.is_set():
            notify("STOPPING=1")
        self._stopping.set()
        self._first.set()
        self.signal(signal.SIGTERM)

    def reload(self) -> None:
        """Let every worker load the config anew; what comes of it is in their logs. What changes while they do is loaded once
        more.
        """
        if not self._again:
            self._again = True
            self._tasks.spawn(self._asked(), "loading the config anew")

    def signal(self, number: int) -> None:
        """Pass a signal on to every worker."""
        for seat in self._seats:
            seat.signal(number)

    async def _keep(self, seat: Seat) -> None:
        """Have one process after the other on a seat, until all are to stop."""
        if seat is not self._seats[0]:
            # The first alone: what is wrong with every one of them is told once.
            await self._first.wait()
        loop = asyncio.get_running_loop()
        pause = FIRST_PAUSE_S
        while not self._stopping.is_set():
            began = loop.time()
            code = await seat.sit(lambda word, said: self._answers[word](seat, said))
            self._totals.died(seat.number)
            if self._stopping.is_set():
                return
            if not self._all:
                self._code = code if code > 0 else NOT_STARTED
                self.stop()
                return
            if not seat.served:
                seat.withdraw()
            RESTARTS.add(1, str(seat.number))
            pause = FIRST_PAUSE_S if loop.time() - began > STEADY_S else min(2 * pause, MAX_PAUSE_S)
            wait = pause * random.uniform(0.5, 1.0)  # noqa: S311  jitter, not a secret
            log.error("worker %d has ended (%s); another takes its place in %.1f s", seat.number, _how(code), wait)
            with suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._stopping.wait()

    # What workers ask

    async def _ready(self, seat: Seat, said: Mapping[str, tuple[str, int]]) -> None:
        seat.up = True
        self._first.set()
        if seat.behind:
            seat.behind = False
            self._tasks.spawn(self._caught_up(seat), f"loading the config of worker {seat.number} anew")
        if self._stopping.is_set():
            seat.signal(signal.SIGTERM)  # it was not there yet when the others heard
        elif not self._all and all(one.up for one in self._seats):
            self._all = True
            self._started({name: Address(host, port) for name, (host, port) in said.items()})
            notify("READY=1")

    async def _binds(self, seat: Seat, said: Mapping[str, str]) -> None:
        seat.keep(said)

    async def _caught_up(self, seat: Seat) -> None:
        try:
            async with self._loading:
                await seat.ask("reload", seconds=RELOAD_S)
        except GoneError as error:
            log.warning("worker %d has not loaded the config anew: it %s", seat.number, error)

    async def _metrics(self, _seat: Seat, _said: None) -> list[list[Any]]:
        """The numbers of all, as of now; those of a worker that does not answer as of when it last did."""
        await self._ask("metrics")
        whole = total((self._totals.whole(), _own()))
        return [family.plain() for family in whole.values()]

    async def _readiness(self, _seat: Seat, seconds: float) -> dict[str, Any]:
        """Whether all are ready; the reason of the first that is not, for each backend."""
        told = await self._ask("readiness", seconds, patience=seconds + ANSWER_S)
        backends: dict[str, dict[str, Any]] = {}
        for number, one in told.items():
            for name, backend in one.get("backends", {}).items():
                known = backends.setdefault(name, backend)
                if known["ready"] and not backend["ready"]:
                    backends[name] = backend | {"reason": f"worker {number}: {backend.get('reason')}"}
        ready = all(one["ready"] for one in told.values())
        body: dict[str, Any] = {"ready": ready, "backends": backends}
        reasons = [f"worker {number} {one['reason']}" for number, one in told.items() if "reason" in one]
        return body | ({"reason": "; ".join(reasons)} if reasons else {})

    async def _asked(self) -> None:
        async with self._loading:
            self._again = False
            await self._reloaded()

    async def _reload(self, _seat: Seat, _said: None) -> dict[str, Any]:
        if self._loading.locked():
            return {"outcome": "busy"}
        async with self._loading:
            return await self._reloaded()

    async def _reloaded(self) -> dict[str, Any]:
        """What has come of it: the worst of what each worker says."""
        reloading()
        for seat in self._seats:
            # One that is about to start has read it already, or not yet: nobody knows.
            seat.behind = not seat.up
        answers = await self._ask("reload", patience=RELOAD_S)
        notify("READY=1")
        told = {seat.number: answers[seat.number] for seat in self._seats if seat.up or "outcome" in answers[seat.number]}
        if not told:
            return {"outcome": "stopping"}
        outcomes = [one.get("outcome", "stopping") for one in told.values()]
        if len(set(outcomes)) > 1 and not set(outcomes) <= LOADED:
            log.error("not every worker has loaded the config: %s", ", ".join(map(str, outcomes)))
        worst = min(told.values(), key=lambda one: OUTCOMES.index(one.get("outcome", "stopping")))
        return worst if "outcome" in worst else {"outcome": "stopping"}

    async def _ask(self, word: str, said: Any = None, *, patience: float = ANSWER_S) -> dict[int, dict[str, Any]]:
        """What each worker answers; of one that does not, the reason."""

        async def ask(seat: Seat) -> dict[str, Any]:
            try:
                answer = await seat.ask(word, said, seconds=patience)
            except GoneError as error:
                return {"ready": False, "reason": str(error)}
            if word == "metrics":
                self._totals.told(seat.number, read(answer))
                return {}
            return dict(answer)

        answers = await asyncio.gather(*map(ask, self._seats))
        return {seat.number: answer for seat, answer in zip(self._seats, answers, strict=True)}

    async def _look(self) -> None:
        while True:
            await self._ask("metrics")
            await asyncio.sleep(LOOK_S)


def _own() -> Families:
    """What the supervisor itself counts."""
    return {name: family for name, family in families().items() if name in {RESTARTS.name, UP.name}}


def _how(code: int) -> str:
    return f"by {signal.Signals(-code).name}" if code < 0 else f"with code {code}"
