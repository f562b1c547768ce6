"""The callers of a run: those who write, in every mode over every wire, and those who read what is written."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from tests.chaos.caller import Writer
from tests.chaos.ledger import KEPT, Attempt
from tests.chaos.stream import STREAMS, Stream, Watch

WIRES = ("rest", "websocket", "grpc")
QUIET_S = 15


class Crowd:
    """All callers of one run. `attempts` is their ledger."""

    def __init__(self, seed: int, modes: Sequence[str], addresses: dict[str, str], *, held: bool) -> None:
        """`held`: the listeners' sockets outlive the gateway, so a stream that ends is gone on with."""
        self.attempts: list[Attempt] = []
        self._seed = seed
        self._modes = modes
        self._addresses = addresses
        self._held = held
        self._streams: list[Stream] = []
        self._reading: list[asyncio.Task[None]] = []
        self._writing: set[asyncio.Task[None]] = set()
        self._stop = asyncio.Event()

    def write(self, group: asyncio.TaskGroup, writers: int = 2) -> None:
        """Let callers write in every mode over every wire until `stop`."""
        for mode in self._modes:
            for wire in WIRES:
                if (wire == "grpc" and mode != "broker") or (wire == "websocket" and mode == "once"):
                    continue
                for number in range(writers):
                    name = f"{self._seed}-{mode}-{wire}-{number}"
                    writer = Writer(name, mode, wire, self._addresses, self.attempts.append)
                    self._writing.add(group.create_task(writer.run(self._stop)))

    async def follow(self, group: asyncio.TaskGroup) -> None:
        """Let callers read what is written from now on; their streams may not end before the verdict."""
        for kind in STREAMS:
            if self._held and kind is Watch:
                continue  # gRPC has no socket that outlives it
            stream = kind(self._addresses, again=self._held)
            self._reading.append(group.create_task(stream.run()))
            self._streams.append(stream)
            await stream.open.wait()

    def kept(self) -> set[str]:
        """The ids of what was acknowledged."""
        return {one.id for one in self.attempts if one.told in KEPT}

    async def caught_up(self) -> list[str]:
        """Until every stream has seen what was acknowledged, or has ended, or nothing more comes; then let them go. Returns what
        went wrong with them.
        """
        wanted = self.kept()
        loop = asyncio.get_running_loop()
        last, since = -1, loop.time()
        while loop.time() - since < QUIET_S:
            left = sum(len(wanted - stream.seen) for stream in self._streams if not stream.ended)
            if not left:
                break
            if left != last:
                last, since = left, loop.time()
            await asyncio.sleep(0.1)
        for task in self._reading:
            task.cancel()
        troubles = []
        for stream in self._streams:
            if stream.ended:
                troubles.append(f"a stream was dropped: {stream.ended}")
            elif missed := wanted - stream.seen:
                troubles.append(f"{type(stream).__name__} has not seen {len(missed)} records, as {min(missed)}")
        return troubles

    def stop(self) -> None:
        """Let the callers end with the answer that they wait for."""
        self._stop.set()

    async def settled(self) -> None:
        """Until the callers have the answers that they wait for."""
        await asyncio.wait(self._writing)
