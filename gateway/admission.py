"""Who may begin while the gateway is behind: the newest first, and as many as it can answer in time.

How far behind it is, is told by how late its own timers run. While they are in time nothing waits here, and asking costs a look
at one flag. Once they are late, whoever comes waits before any work was done for it: served are those who came last, for they
still wait for their answer; who has waited for long is refused, definitely, and told to come again. So a gateway that is offered
three times what it can carry still carries what it can, and answers its operators.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import Protocol, Self

from pydantic import Field

from gateway.errors import CallerError, Reason
from gateway.metric import Counter, Gauge
from gateway.part import Part

BEAT_S = 0.05
ROUND_S = 0.001
CALM_ROUNDS = 50
LEAST = 8
GROWTH = 1.25

REFUSED = Counter("polygate_admissions_refused", "Calls that were refused before any work, because the gateway was behind.")
WAITING = Gauge("polygate_admissions_waiting", "Calls that wait to begin, because the gateway is behind.")


class OverloadConfig(Part):
    """What becomes of calls while the gateway is behind."""

    late: float = Field(default=0.2, ge=0.01, le=10)
    """How many seconds late its own timers may run before calls wait their turn. As many calls are begun at a time as it answers
    in that time.
    """
    patience: float = Field(default=0.5, ge=0.01, le=60)
    """Seconds that a call may wait for its turn; then it is refused (503, with Retry-After)."""


class Waiter(Protocol):
    """A call that has not begun."""

    def admit(self) -> None:
        """Begin. A no-op where the caller has gone."""

    def refuse(self) -> None:
        """Say that it will not begin. The same."""


@dataclass(slots=True)
class _Turn:
    """A task that waits."""

    done: asyncio.Future[bool]

    def admit(self) -> None:
        if not self.done.done():
            self.done.set_result(True)

    def refuse(self) -> None:
        if not self.done.done():
            self.done.set_result(False)


def refusal() -> CallerError:
    """What a call is told that could not begin."""
    return CallerError(Reason.OVERLOADED, "the gateway has more to do than it can: try again")


class Admission:
    """One for the process. `late` says whether calls have to wait their turn now."""

    def __init__(self) -> None:
        self.config = OverloadConfig()
        self.late = False
        self._waiting: deque[tuple[float, Waiter]] = deque()
        self._window = LEAST
        self._calm = 0
        self._due = self._last = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._round_timer: asyncio.TimerHandle | None = None

    def __enter__(self) -> Self:
        """Look at the time from now on."""
        self._due = asyncio.get_running_loop().time()
        self._stop = WAITING.watch(lambda: len(self._waiting))
        self._beat()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop()
        for timer in (self._timer, self._round_timer):
            if timer is not None:
                timer.cancel()
        self.late = False
        while self._waiting:
            self._waiting.popleft()[1].refuse()

    def wait(self, waiter: Waiter) -> None:
        """Admit or refuse it later. Only while `late`."""
        self._waiting.append((asyncio.get_running_loop().time(), waiter))

    async def turn(self) -> None:
        """Wait for the turn of the task that asks; CallerError(OVERLOADED) where it does not come in time."""
        if not self.late:
            return
        turn = _Turn(asyncio.get_running_loop().create_future())
        self.wait(turn)
        if not await turn.done:
            raise refusal()

    def _beat(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        if now - self._due > self.config.late and not self.late:
            self.late = True
            self._window, self._calm, self._last = LEAST, 0, now
            self._round_timer = loop.call_later(ROUND_S, self._round)
        self._due = now + BEAT_S
        self._timer = loop.call_later(BEAT_S, self._beat)

    def _round(self) -> None:
        """Once each time around the event loop: how long that took says how many more may begin."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        # First of all: where beginning one goes wrong the others have their turns all the same.
        self._round_timer = loop.call_later(ROUND_S, self._round)
        took, self._last = now - self._last, now
        if took > self.config.late:
            self._window = max(LEAST, int(self._window * self.config.late / took))
        elif self._waiting:
            self._window = int(self._window * GROWTH) + 1
        for _ in range(min(self._window, len(self._waiting))):
            self._waiting.pop()[1].admit()
        oldest = now - self.config.patience
        while self._waiting and self._waiting[0][0] < oldest:
            REFUSED.add()
            self._waiting.popleft()[1].refuse()
        self._calm = 0 if self._waiting or took > self.config.late / 2 else self._calm + 1
        if self._calm > CALM_ROUNDS:
            self.late = False
            self._round_timer.cancel()
