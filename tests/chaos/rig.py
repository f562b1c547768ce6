"""One run: a gateway on a topic of its own, callers, a fault, and the verdict once all is mended."""

from __future__ import annotations

import asyncio
import random
import shutil
import socket
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self
from uuid import uuid4

import aiohttp
import psutil

from tests.chaos.account import Metrics, accounted, read, settled_later
from tests.chaos.caller import ANSWER_S
from tests.chaos.config import LISTENERS, PARTITIONS, config, kafka, local
from tests.chaos.crowd import Crowd
from tests.chaos.disk import Disk
from tests.chaos.found import in_file, on_kafka
from tests.chaos.ledger import Told, Verdict, verdict
from tests.chaos.proxy import Proxy
from tests.kafka_broker import ScriptBroker
from tests.system.process import Gateway

SETTLED_S = 90
QUIET_S = 45


def free_ports(count: int) -> list[int]:
    """Ports that are free now, below those that the kernel gives away."""
    ports: list[int] = []
    while len(ports) < count:
        port = random.randint(12_000, 20_000)
        with socket.socket() as one:
            if port not in ports and one.connect_ex(("127.0.0.1", port)):
                ports.append(port)
    return ports


@dataclass
class Rig:
    """What a fault may touch. `random` is seeded: a run is made again by its seed."""

    seed: int
    modes: Sequence[str]
    broker: ScriptBroker | None = None
    """None: the embedded log."""
    proxy: Proxy | None = None
    disk: Disk | None = None
    """Where the gateway's files are, unless in the folder of the run."""
    prefix: Sequence[str] = ()
    """What the next gateway is started by."""
    number: int = 1
    """Of how many workers a gateway is."""
    held: bool = False
    """Whether the sockets of its listeners outlive it: callers are never refused then."""
    environment: dict[str, str] = field(default_factory=dict)
    folder: Path = field(default_factory=lambda: Path(tempfile.mkdtemp(prefix="polygate-chaos-")))

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        self.topic = f"chaos.{uuid4().hex[:12]}"
        self.ports = dict(zip(LISTENERS, free_ports(len(LISTENERS)), strict=True))
        self.addresses = {name: f"127.0.0.1:{port}" for name, port in self.ports.items()}
        self.crowd = Crowd(self.seed, self.modes, self.addresses, held=self.held)
        self.gateways: list[Gateway] = []
        self.others: list[Gateway] = []
        self.troubles: list[str] = []
        """What went wrong beside the records."""
        self.sockets: dict[str, socket.socket] = {}
        self._stack = AsyncExitStack()

    # The gateway

    def config(self, addresses: Mapping[str, str]) -> str:
        """The config of a gateway that listens on these addresses."""
        if self.broker is None:
            backend = local(self.files, self.topic)
        else:
            backend = kafka(self.bootstrap, self.broker.bootstrap.count(",") + 1)
        return config(self.files, backend, self.topic, self.modes, addresses, shared=self.held, workers=self.number)

    @property
    def files(self) -> Path:
        """The folder of the gateway's files, as the gateway sees it."""
        return self.folder / "files"

    @property
    def bootstrap(self) -> str:
        """Where the gateway meets the broker: through the proxy where there is one."""
        assert self.broker is not None
        return self.broker.bootstrap if self.proxy is None else self.proxy.address

    @property
    def gateway(self) -> Gateway:
        """The one that runs now."""
        return self.gateways[-1]

    async def start(self) -> Gateway:
        """Start the gateway that the callers know; it listens when this returns."""
        prefix = [*(self.disk.words if self.disk is not None else ()), *self.prefix]
        config = self.config(self.addresses)
        gateway = await asyncio.to_thread(Gateway, config, self.folder, self.environment, prefix, self.sockets)
        self.gateways.append(gateway)
        return gateway

    async def restart(self) -> None:
        """Put another gateway in the place of the one that runs: before that one goes where it can be there beside it, and after
        it where they would have the same files.
        """
        before = self.gateway
        if self.broker is not None:
            await self.start()
        before.terminate()
        if code := await asyncio.to_thread(before.wait):
            self.troubles.append(f"a gateway ended with {code}")
        if self.broker is None:
            await self.start()

    def workers(self) -> list[psutil.Process]:
        """The workers of the gateway that runs."""
        return psutil.Process(self.gateway.process.pid).children()

    async def restarted(self, number: int) -> None:
        """Until so many workers have had another in their place, and all are ready."""
        while sum((await self.metrics())["polygate_worker_restarts_total"].values()) < number:  # noqa: ASYNC110  of another process
            await asyncio.sleep(0.1)
        while (await self.ask("GET", "/readyz"))[0] != 200:  # noqa: ASYNC110  of another process
            await asyncio.sleep(0.1)

    async def another(self) -> Gateway:
        """Start one more, elsewhere, of the same group."""
        folder = self.folder / f"other-{len(self.others)}"
        config = self.config(dict.fromkeys(LISTENERS, "127.0.0.1:0")).replace(str(self.files), str(folder))
        gateway = await asyncio.to_thread(Gateway, config, folder)
        self.others.append(gateway)
        return gateway

    async def kill(self) -> None:
        """SIGKILL the gateway."""
        await asyncio.to_thread(self.gateway.kill)

    async def terminate(self) -> int:
        """SIGTERM the gateway; its exit code."""
        self.gateway.terminate()
        return await asyncio.to_thread(self.gateway.wait)

    # The run

    async def __aenter__(self) -> Self:
        self.files.mkdir(parents=True)
        async with AsyncExitStack() as stack:
            if self.held:
                ports = {name: port for name, port in self.ports.items() if LISTENERS[name] != "grpc"}
                for name, port in ports.items():
                    self.sockets[name] = stack.enter_context(socket.create_server(("127.0.0.1", port), backlog=1024))
            if self.disk is not None:
                stack.enter_context(self.disk.mounted(self.files))
            if self.proxy is not None:
                await stack.enter_async_context(self.proxy)
            await self.start()
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *error: object) -> None:
        for gateway in (*self.gateways, *self.others):
            await asyncio.to_thread(gateway.kill)
        await self._stack.aclose()
        if not any(error):
            shutil.rmtree(self.folder, ignore_errors=True)

    async def pause(self, least: float, most: float) -> None:
        """Let some seeded time pass."""
        await asyncio.sleep(self.random.uniform(least, most))

    async def verdict(self) -> Verdict:
        """Stop the gateway once its spool is empty, and hold the ledger against the topic."""
        await self._emptied()
        await self._carried()
        metrics = await self.metrics()
        accounted(metrics)
        dropped, unknown = settled_later(metrics, "none")
        code = await self.terminate()
        result = verdict(self.crowd.attempts, await self._found(), alone=not self.held and self.number == 1)
        if len(self.gateways) == 1 and not dropped <= result.dropped <= dropped + unknown:
            counted = f"{dropped} were counted as dropped and {unknown} as unknown"
            result.strange.append(f"of what was accepted {counted}, and {result.dropped} are missing")
        if (self.held or self.number > 1) and (
            refused := [one for one in self.crowd.attempts if one.told is Told.REFUSED and "-grpc-" not in one.writer]
        ):
            result.strange.append(f"{len(refused)} callers were refused, as {refused[0]}")
        result.strange += self.troubles
        if code:
            result.strange.append(f"the gateway ended with {code}")
        return result

    async def ask(self, method: str, path: str) -> tuple[int, str]:
        """Ask the admin listener: status and body."""
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=ANSWER_S)) as session,
            session.request(method, f"http://{self.addresses['admin']}{path}") as answer,
        ):
            return answer.status, await answer.text()

    async def metrics(self) -> Metrics:
        """The numbers of /metrics."""
        return read((await self.ask("GET", "/metrics"))[1])

    async def _emptied(self) -> None:
        """Until the spool is forwarded, and what was accepted is settled."""
        async with asyncio.timeout(SETTLED_S):
            while True:
                metrics = await self.metrics()
                waiting = ("polygate_spool_records", "polygate_exchanges_in_flight")
                if not any(sum(metrics[name].values()) for name in waiting):
                    return
                await asyncio.sleep(0.1)

    async def _carried(self) -> None:
        """Until what was acknowledged on the way in is out at the other end, or no more comes."""
        if "through" not in self.modes:
            return
        wanted = self.crowd.kept()
        loop = asyncio.get_running_loop()
        last, since = -1, loop.time()
        while loop.time() - since < QUIET_S:
            found = wanted.intersection(one for ids in await self._present() for one in ids)
            if len(found) != last:
                last, since = len(found), loop.time()
            if len(found) == len(wanted):
                return
            await asyncio.sleep(0.2)

    async def _present(self) -> list[list[str]]:
        """The ids in each partition of the topic now."""
        if self.broker is None:
            if self.disk is not None:
                # SQLite would follow /proc/PID/root as the link that it looks like.
                await asyncio.to_thread(shutil.copytree, self.disk.seen(self.files), self.folder / "seen", dirs_exist_ok=True)
            return in_file(self.folder / ("files" if self.disk is None else "seen") / "log.db", self.topic)
        return await on_kafka(self.broker.bootstrap, self.topic, PARTITIONS)

    async def _found(self) -> list[list[str]]:
        """The same, once no more comes: a record whose producer is gone may still stand in a socket's buffer."""
        before: list[list[str]] = [[""]]
        while (found := await self._present()) != before:
            before = found
            await asyncio.sleep(0.3 if self.broker is not None else 0)
        return found
