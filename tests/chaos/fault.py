"""What is done to a gateway and its broker while callers write. Each fault ends with everything mended."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tests.chaos.proxy import Weather
from tests.chaos.rig import Rig

LIBRARIES = Path("/usr/lib")

Inflict = Callable[[Rig], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Fault:
    """One kind of trouble, and where it can be had."""

    name: str
    inflict: Inflict
    backends: tuple[str, ...] = ("kafka",)
    """ "kafka", "kafka-3" (three nodes), "proxied" (one node behind the proxy), "local"."""
    modes: tuple[str, ...] = ("broker",)
    streams: bool = False
    """Whether callers read the topic all the while, whose streams must not end."""
    workers: int = 1
    """How many processes the gateway is."""
    held: bool = False
    """Whether the sockets of the gateway's listeners outlive it; streams are then gone on with by others."""
    disk_mib: int = 0
    """The size of the disk that the gateway's files are on; 0 for the machine's own."""


async def nothing(rig: Rig) -> None:
    """No fault: what the ledger says of a fair day."""
    await rig.pause(1, 2)


async def kill_gateway(rig: Rig) -> None:
    """Kill -9 at any moment, twice."""
    for _ in range(2):
        await rig.pause(0.2, 1.2)
        await rig.kill()
        await rig.start()
    await rig.pause(0.3, 0.6)


async def harmed(rig: Rig, harm: Callable[[], None], mend: Callable[[], None], least: float, most: float) -> None:
    """Something is not as it should be for a while."""
    await rig.pause(0.2, 0.8)
    await asyncio.to_thread(harm)
    await rig.pause(least, most)
    await asyncio.to_thread(mend)
    await rig.pause(0.5, 1)


async def pause_broker(rig: Rig) -> None:
    """The broker hangs for a while: connections stay open, nothing answers."""
    assert rig.broker is not None
    await harmed(rig, rig.broker.pause, rig.broker.resume, 0.3, 4)


async def kill_broker(rig: Rig) -> None:
    """The broker is killed, and started again."""
    assert rig.broker is not None
    await harmed(rig, rig.broker.kill, rig.broker.start, 0, 2)


async def restart_broker(rig: Rig) -> None:
    """The broker is stopped cleanly, and started again."""
    assert rig.broker is not None
    await harmed(rig, rig.broker.stop, rig.broker.start, 0, 1)


def one_of_three(harm: str, mend: str) -> Inflict:
    """One node of three is harmed; two are enough."""

    async def inflict(rig: Rig) -> None:
        assert rig.broker is not None
        node = partial(rig.broker.node, number=rig.random.randint(1, 3))
        await harmed(rig, partial(node, harm), partial(node, mend), 2, 5)

    return inflict


async def reset(rig: Rig) -> None:
    """Every connection to the broker is reset, some times."""
    assert rig.proxy is not None
    for _ in range(5):
        await rig.pause(0.1, 0.5)
        rig.proxy.reset()
    await rig.pause(0.3, 0.6)


def weather(*kinds: Weather, least: float = 0.3, most: float = 3.0) -> Inflict:
    """The network is bad for a while."""

    async def inflict(rig: Rig) -> None:
        assert rig.proxy is not None
        for kind in kinds:
            await rig.pause(0.2, 0.6)
            rig.proxy.weather = kind
            await rig.pause(least, most)
            rig.proxy.weather = Weather.FAIR
        await rig.pause(0.5, 1)

    return inflict


async def fill_disk(rig: Rig) -> None:
    """The disk is small and becomes full; after a while it is given room."""
    assert rig.disk is not None
    await rig.pause(2, 4)
    await asyncio.to_thread(rig.disk.resize, 256)
    await rig.pause(1, 2)


async def fail_sync(rig: Rig) -> None:
    """From some fdatasync on, every one fails: what was not acknowledged by then never is. Then the gateway starts anew."""
    await rig.kill()
    first = rig.random.randint(3, 300)
    rig.prefix = ("strace", "-D", "-f", "-qq", "-o", "/dev/null", "-e", "trace=fdatasync,fsync")
    rig.prefix += ("-e", f"inject=fdatasync,fsync:error=EIO:when={first}+")
    await rig.start()
    await rig.pause(2, 4)
    await rig.kill()
    rig.prefix = ()
    await rig.start()
    await rig.pause(0.5, 1)


async def step_clock(rig: Rig) -> None:
    """The wall clock of the gateway jumps, back and forth, by up to an hour."""
    clock = rig.folder / "clock"
    clock.write_text("+0\n")
    rig.environment |= {
        "LD_PRELOAD": str(next(LIBRARIES.glob("*/faketime/libfaketime.so.1"))),  # noqa: ASYNC240  a look at a folder
        "FAKETIME_TIMESTAMP_FILE": str(clock),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }
    await rig.kill()
    await rig.start()
    for _ in range(4):
        await rig.pause(0.2, 0.8)
        clock.write_text(f"{rig.random.randint(-3600, 3600):+d}\n")
    await rig.pause(0.3, 0.6)


async def rebalance(rig: Rig) -> None:
    """Members of the group come, and go by SIGTERM or SIGKILL, the first one too."""
    await rig.pause(0.3, 0.8)
    other = await rig.another()
    await rig.pause(1, 2)
    if rig.random.random() < 0.5:
        await rig.kill()
    else:
        await rig.terminate()
    await rig.start()
    await rig.pause(1, 2)
    other.terminate() if rig.random.random() < 0.5 else other.kill()
    await rig.pause(0.5, 1)


async def reload(rig: Rig) -> None:
    """The config is loaded anew, again and again: the same, with a route more, with another policy, and bad ones."""
    good = rig.config(rig.addresses)
    file = rig.folder / "gateway.yaml"
    extra = '\n  - {name: extra, when: {rest: "GET /extra"}, to: {backend: log, tail: other}}\n'
    for number in range(RELOADS):
        text, status = rig.random.choice(
            (
                (good, 200),
                (good + extra, 200),
                (good.replace("seconds: 2", f"seconds: {2 + number}"), 200),
                (good + extra.replace("backend: log", "backend: nobody"), 422),
                (good + "\n  - {", 422),
                (good.replace("kind: rest", "kind: rust"), 422),
            )
        )
        file.write_text(text)
        told, body = await rig.ask("POST", "/reload")
        if told != status:
            rig.troubles.append(f"reload {number} is {told} where {status} was due: {body}")
        await rig.pause(0, 0.1)
    file.write_text(good)
    await rig.ask("POST", "/reload")


async def restart(rig: Rig) -> None:
    """Another gateway takes the place of the one that runs, again and again, on sockets that outlive them."""
    for _ in range(RESTARTS):
        await rig.pause(0.2, 1)
        await rig.restart()
    await rig.pause(0.3, 0.6)


async def kill_worker(rig: Rig) -> None:
    """Kill -9 of one worker of several, three times; another takes its place."""
    for number in range(1, 4):
        await rig.pause(0.5, 1.5)
        await asyncio.to_thread(rig.random.choice(rig.workers()).kill)
        await rig.restarted(number)
    await rig.pause(0.3, 0.6)


RESTARTS = 3
"""In one run: 20 seeds make 60 of them."""
RELOADS = 10
"""In one run: 20 seeds make 200 of them."""
ACKS = ("broker", "once", "stored", "fallback", "none")

FAULTS = {
    fault.name: fault
    for fault in (
        Fault("none", nothing, ("kafka", "local"), ACKS),
        Fault("kill-gateway", kill_gateway, ("kafka", "local"), ACKS),
        Fault("pause-broker", pause_broker, ("kafka",), ACKS),
        Fault("kill-broker", kill_broker, ("kafka",), ACKS),
        Fault("restart-broker", restart_broker, ("kafka",), ACKS),
        Fault("kill-one-of-three", one_of_three("kill", "start"), ("kafka-3",), ACKS),
        Fault("pause-one-of-three", one_of_three("pause", "resume"), ("kafka-3",), ACKS),
        Fault("reset", reset, ("proxied",), ACKS),
        Fault("blackhole", weather(Weather.BLACK), ("proxied",), ACKS),
        Fault("no-answers", weather(Weather.DEAF), ("proxied",), ACKS),
        Fault("slow", weather(Weather.SLOW), ("proxied",), ACKS),
        Fault("rebalance", rebalance, ("kafka",), ("through",)),
        Fault("consumer-killed", kill_gateway, ("kafka", "local"), ("through",)),
        Fault("reload", reload, ("kafka", "local"), ("broker", "none"), streams=True),
        Fault("rolling-restart", restart, ("kafka", "local"), ("broker", "stored", "none"), streams=True, held=True),
        Fault("kill-worker", kill_worker, ("kafka",), ("broker", "stored", "once"), workers=2),
        Fault("disk-full", fill_disk, ("local", "kafka"), ("broker", "once", "stored"), disk_mib=2),
        Fault("fdatasync-fails", fail_sync, ("local", "kafka"), ("broker", "once", "stored")),
        Fault("clock-steps", step_clock, ("kafka", "local"), ACKS),
        Fault("cut", weather(Weather.CUT, Weather.CUT, Weather.CUT, least=0.05, most=0.3), ("proxied",), ACKS),
    )
}
