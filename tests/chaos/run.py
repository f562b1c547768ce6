"""Runs of one fault on one backend, seed by seed, on brokers that are made once."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from typing import Self

from tests.chaos.disk import Disk
from tests.chaos.fault import Fault
from tests.chaos.ledger import Verdict
from tests.chaos.proxy import Proxy
from tests.chaos.rig import Rig, free_ports
from tests.kafka_broker import ScriptBroker

RUN_S = 240
SPOOLED = {"stored", "fallback"}
"""The modes that need a broker behind the gateway's own disk."""


class Brokers:
    """The brokers that runs share, each started when it is first asked for."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._made: dict[str, tuple[ScriptBroker | None, int]] = {"local": (None, 0)}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def get(self, kind: str) -> tuple[ScriptBroker | None, int]:
        """The broker of a kind, and the port of its proxy or 0."""
        if kind not in self._made:
            self._made[kind] = self._start(kind)
        return self._made[kind]

    def _start(self, kind: str) -> tuple[ScriptBroker, int]:
        if kind == "proxied":
            (port,) = free_ports(1)
            settings = {"advertised.listeners": f"PLAINTEXT://127.0.0.1:{port}"}
            return self._stack.enter_context(ScriptBroker(settings=settings)), port
        return self._stack.enter_context(ScriptBroker(nodes=3 if kind == "kafka-3" else 1)), 0


async def once(fault: Fault, backend: str, seed: int, brokers: Brokers) -> Verdict:
    """One run. Raises what went wrong besides the verdict: a gateway that does not start, a spool that does not empty."""
    broker, port = await asyncio.to_thread(brokers.get, backend)
    modes = tuple(mode for mode in fault.modes if broker is not None or mode not in SPOOLED)
    proxy = None
    if port:
        assert broker is not None
        proxy = Proxy(port, seed)
        proxy.target = int(broker.bootstrap.rpartition(":")[2])
    if broker is not None:
        await asyncio.to_thread(broker.mend)
    disk = Disk(fault.disk_mib) if fault.disk_mib else None
    async with asyncio.timeout(RUN_S), Rig(seed, modes, broker, proxy, disk=disk, held=fault.held, number=fault.workers) as rig:
        async with asyncio.TaskGroup() as group:
            if fault.streams:
                await rig.crowd.follow(group)
            rig.crowd.write(group)
            await fault.inflict(rig)
            rig.crowd.stop()
            if fault.streams:
                await rig.crowd.settled()
                rig.troubles += await rig.crowd.caught_up()
        return await rig.verdict()


def broken(result: Verdict) -> list[str]:
    """The promises that a run has broken."""
    return [
        *(f"lost: {one}" for one in result.lost),
        *(f"phantom: {one}" for one in result.phantom),
        *(f"twice for one idempotency key: {one}" for one in result.twice),
        *(f"out of order: {one}" for one in result.reordered),
        *(f"strange: {one}" for one in result.strange),
    ]
