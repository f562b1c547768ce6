"""One run: a gateway on a topic of its own, callers, a fault, and the verdict once all is mended."""

from __future__ import annotations

import asyncio
import json
import random
import shutil
import socket
import sqlite3
import tempfile
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self
from uuid import uuid4

import aiohttp
import psutil
from aiokafka import AIOKafkaConsumer, TopicPartition

from tests.chaos.caller import Writer
from tests.chaos.disk import Disk
from tests.chaos.ledger import KEPT, Attempt, Told, Verdict, verdict
from tests.chaos.proxy import Proxy
from tests.chaos.stream import STREAMS, Stream, Watch
from tests.kafka_broker import ScriptBroker
from tests.system.process import ROOT, Gateway

PARTITIONS = 3
DEADLINE_S = 2
SETTLED_S = 90
QUIET_S = 45
LISTENERS = {"public": "rest", "rpc": "grpc", "live": "websocket", "admin": "admin"}
ACKS = {
    "broker": "",
    "stored": ", ack: stored",
    "fallback": ", when_down: store",
    "none": ", ack: none",
    "once": ", idempotency: {window: 600}",
    "through": "",
}
"""What the target of each mode says beside its topic. Records of `through` come to it by another topic, which is consumed."""
ONWARD = """
  - name: onward
    when: {{topic: {topic}.in}}
    to: {{backend: log, publish: {topic}, key: "{{customer}}"}}"""


FEED = """
  - name: feed
    when: {{rest: GET /feed, websocket: /feed, grpc: shop.v1.Orders/Watch}}
    to: {{backend: log, tail: {topic}}}"""


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
    wires: Sequence[str] = ("rest", "websocket", "grpc")
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
        self.attempts: list[Attempt] = []
        self.gateways: list[Gateway] = []
        self.others: list[Gateway] = []
        self.troubles: list[str] = []
        """What went wrong beside the records."""
        self.sockets: dict[str, socket.socket] = {}
        self._streams: list[Stream] = []
        self._reading: list[asyncio.Task[None]] = []
        self._writing: set[asyncio.Task[None]] = set()
        self._stop = asyncio.Event()
        self._stack = AsyncExitStack()

    # The gateway

    def config(self, addresses: Mapping[str, str]) -> str:
        """The config of a gateway that listens on these addresses."""
        shared = {"rpc": ", reuse_port: true"} if self.held else {}
        listeners = "\n".join(
            f'  {name}: {{kind: {kind}, bind: "{addresses[name]}"{shared.get(name, "")}}}' for name, kind in LISTENERS.items()
        )
        through = "through" in self.modes
        if through:
            listeners += f"\n  onward: {{kind: topic, backend: log, topics: [{self.topic}.in], group: onward.{self.topic}}}"
        if self.broker is None:
            topics = ", ".join(f"{name}: {{partitions: {PARTITIONS}}}" for name in (self.topic, f"{self.topic}.in"))
            backend = f"{{kind: local, path: {self.files}/log.db, topics: {{{topics}}}}}"
        else:
            copies = self.broker.bootstrap.count(",") + 1
            backend = (
                f'{{kind: kafka, bootstrap: "{self.bootstrap}", create: {{partitions: {PARTITIONS}, replication: {copies}}}}}'
            )
        routes = "\n".join(
            f"  - name: {mode}\n"
            f'    when: {{rest: "POST /{mode}/{{customer}}", websocket: /{mode}'
            f"{', grpc: shop.v1.Orders/Place' if mode == 'broker' else ''}}}\n"
            f'    to: {{backend: log, publish: {self.topic}{".in" * (mode == "through")}, key: "{{customer}}"{ACKS[mode]}}}'
            for mode in self.modes
        )
        if through:
            routes += ONWARD.format(topic=self.topic)
        routes += FEED.format(topic=self.topic)
        state = f"path: {self.files}/state.db" if self.number == 1 else f"backend: log, topic: {self.topic}.state"
        return (
            f"workers: {self.number}\ncontracts: [{ROOT}/protos/shop.binpb]\n"
            f"listeners:\n{listeners}\nbackends:\n  log: {backend}\n"
            f"policies: [{{kind: deadline, seconds: {DEADLINE_S}}}, {{kind: observe, log: none}}]\n"
            f"state: {{{state}}}\nspool: {{path: {self.files}/spool.db}}\nroutes:\n{routes}\n"
        )

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

    async def write(self, group: asyncio.TaskGroup, writers: int = 2) -> None:
        """Let callers write in every mode over every wire until `settle`."""
        for mode in self.modes:
            for wire in self.wires:
                if (wire == "grpc" and mode != "broker") or (wire == "websocket" and mode == "once"):
                    continue
                for number in range(writers):
                    name = f"{self.seed}-{mode}-{wire}-{number}"
                    writer = Writer(name, mode, wire, self.addresses, self.attempts.append)
                    self._writing.add(group.create_task(writer.run(self._stop)))

    async def follow(self, group: asyncio.TaskGroup) -> None:
        """Let callers read what is written from now on; their streams may not end before the verdict."""
        for kind in STREAMS:
            if self.held and kind is Watch:
                continue  # gRPC has no socket that outlives it
            stream = kind(self.addresses, again=self.held)
            self._reading.append(group.create_task(stream.run()))
            self._streams.append(stream)
            await stream.open.wait()

    async def caught_up(self) -> None:
        """Until every stream has seen what was acknowledged, or has ended, or nothing more comes; then let them go."""
        wanted = {one.id for one in self.attempts if one.told in KEPT}
        loop = asyncio.get_running_loop()
        last, since = -1, loop.time()
        while loop.time() - since < QUIET_S / 3:
            left = sum(len(wanted - stream.seen) for stream in self._streams if not stream.ended)
            if not left:
                break
            if left != last:
                last, since = left, loop.time()
            await asyncio.sleep(0.1)
        for stream in self._streams:
            if stream.ended:
                self.troubles.append(f"a stream was dropped: {stream.ended}")
            elif missed := wanted - stream.seen:
                self.troubles.append(f"{type(stream).__name__} has not seen {len(missed)} records, as {min(missed)}")
        for task in self._reading:
            task.cancel()

    async def pause(self, least: float, most: float) -> None:
        """Let some seeded time pass."""
        await asyncio.sleep(self.random.uniform(least, most))

    def stop(self) -> None:
        """Let the callers end with the answer that they wait for."""
        self._stop.set()

    async def verdict(self) -> Verdict:
        """Stop the gateway once its spool is empty, and hold the ledger against the topic."""
        await self._emptied()
        await self._carried()
        await self._accounted()
        dropped, unknown = await self._settled_later()
        code = await self.terminate()
        result = verdict(self.attempts, await self._found())
        if len(self.gateways) == 1 and not dropped <= result.dropped <= dropped + unknown:
            counted = f"{dropped} were counted as dropped and {unknown} as unknown"
            result.strange.append(f"of what was accepted {counted}, and {result.dropped} are missing")
        if (self.held or self.number > 1) and (
            refused := [one for one in self.attempts if one.told is Told.REFUSED and "-grpc-" not in one.writer]
        ):
            result.strange.append(f"{len(refused)} callers were refused, as {refused[0]}")
        result.strange += self.troubles
        if code:
            result.strange.append(f"the gateway ended with {code}")
        return result

    async def ask(self, method: str, path: str) -> tuple[int, str]:
        """Ask the admin listener: status and body."""
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10)) as session,
            session.request(method, f"http://{self.addresses['admin']}{path}") as answer,
        ):
            return answer.status, await answer.text()

    async def metrics(self) -> dict[str, dict[tuple[tuple[str, str], ...], float]]:
        """The numbers of /metrics by name and labels."""
        from prometheus_client.parser import text_string_to_metric_families

        _, text = await self.ask("GET", "/metrics")
        found: dict[str, dict[tuple[tuple[str, str], ...], float]] = defaultdict(dict)
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                found[sample.name][tuple(sorted(sample.labels.items()))] = sample.value
        return found

    async def settled(self) -> None:
        """Until the callers have the answers that they wait for."""
        await asyncio.wait(self._writing)

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
        wanted = {one.id for one in self.attempts if one.told in KEPT}
        loop = asyncio.get_running_loop()
        last, since = -1, loop.time()
        while loop.time() - since < QUIET_S:
            found = wanted.intersection(one for ids in await self._present() for one in ids)
            if len(found) != last:
                last, since = len(found), loop.time()
            if len(found) == len(wanted):
                return
            await asyncio.sleep(0.2)

    async def _accounted(self) -> None:
        """Accepted = acknowledged + failed + unknown + stored + dropped + in flight."""
        metrics = await self.metrics()
        accepted = sum(metrics["polygate_exchanges_accepted_total"].values())
        ended = sum(metrics["polygate_exchanges_total"].values())
        flying = sum(metrics["polygate_exchanges_in_flight"].values())
        known = {"acknowledged", "failed", "unknown", "stored", "dropped"}
        outcomes = {dict(labels)["outcome"] for labels in metrics["polygate_exchanges_total"]}
        assert accepted == ended + flying, (accepted, ended, flying)
        assert outcomes <= known, outcomes

    async def _settled_later(self) -> tuple[int, int]:
        """How many of the records that were accepted were dropped, and may have been, by the gateway's own account."""
        ended = [(dict(labels), number) for labels, number in (await self.metrics())["polygate_exchanges_total"].items()]
        mine = [(labels["outcome"], int(number)) for labels, number in ended if labels["route"] == "none"]
        return sum(n for outcome, n in mine if outcome == "dropped"), sum(n for outcome, n in mine if outcome == "unknown")

    async def _present(self) -> list[list[str]]:
        """The ids in each partition of the topic now."""
        if self.broker is None:
            if self.disk is not None:
                # SQLite would follow /proc/PID/root as the link that it looks like.
                await asyncio.to_thread(shutil.copytree, self.disk.seen(self.files), self.folder / "seen", dirs_exist_ok=True)
            return self._found_in(self.folder / ("files" if self.disk is None else "seen") / "log.db")
        return await self._found_on_kafka()

    async def _found(self) -> list[list[str]]:
        """The same, once no more comes: a record whose producer is gone may still stand in a socket's buffer."""
        before: list[list[str]] = [[""]]
        while (found := await self._present()) != before:
            before = found
            await asyncio.sleep(0.3 if self.broker is not None else 0)
        return found

    def _found_in(self, path: Path) -> list[list[str]]:
        ids: dict[int, list[str]] = defaultdict(list)
        with sqlite3.connect(path) as db:
            rows = db.execute(
                "SELECT number, body FROM record JOIN partition ON record.id >> 40 = partition.id "
                "WHERE topic = ? ORDER BY record.id",
                (self.topic,),
            )
            for number, body in rows:
                ids[number].append(json.loads(body)["sku"])
        return list(ids.values())

    async def _found_on_kafka(self) -> list[list[str]]:
        assert self.broker is not None
        consumer = AIOKafkaConsumer(
            bootstrap_servers=self.broker.bootstrap,
            auto_offset_reset="earliest",
            enable_auto_commit=False,
            isolation_level="read_committed",
        )
        await consumer.start()
        try:
            partitions = [TopicPartition(self.topic, number) for number in range(PARTITIONS)]
            consumer.assign(partitions)
            ends = await consumer.end_offsets(partitions)
            await consumer.seek_to_beginning(*partitions)
            ids: dict[int, list[str]] = defaultdict(list)
            while [one for one in partitions if await consumer.position(one) < ends[one]]:
                for one, records in (await consumer.getmany(timeout_ms=200)).items():
                    ids[one.partition] += [json.loads(record.value)["sku"] for record in records]
            return list(ids.values())
        finally:
            await consumer.stop()
