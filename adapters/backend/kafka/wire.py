"""A wire of our own to each Kafka broker, what can go wrong on it, and the settings that all parts of the adapter read."""

from __future__ import annotations

import asyncio
import logging
import ssl
import struct
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from aiokafka import errors
from aiokafka.conn import AIOKafkaConnection, create_conn
from aiokafka.protocol.metadata import MetadataRequest

from gateway.errors import Reason

log = logging.getLogger("polygate")

BACKOFF_S = (0.1, 2.0)

LOGIN = (
    errors.AuthenticationFailedError,
    errors.AuthenticationMethodNotSupported,
    errors.SaslAuthenticationFailed,
    errors.UnsupportedSaslMechanismError,
    errors.IllegalSaslStateError,
)
# What a broker says that no further try will change. A certificate that does not verify is found before it can speak.
REFUSALS = (
    *LOGIN,
    errors.TopicAuthorizationFailedError,
    errors.GroupAuthorizationFailedError,
    errors.ClusterAuthorizationFailedError,
    errors.TransactionalIdAuthorizationFailed,
    errors.InvalidTopicError,
    errors.InvalidGroupIdError,
    errors.UnknownTopicOrPartitionError,
    errors.PolicyViolationError,
    errors.InvalidTimestampError,
    errors.InvalidRequiredAcksError,
    errors.UnsupportedForMessageFormatError,
    errors.UnsupportedVersionError,
    errors.IncompatibleBrokerVersion,
    ssl.SSLCertVerificationError,
)
# How a broker is away: TimeoutError, refused and reset connections are OSError.
# By the last three, what answers there is no Kafka that we know.
# RuntimeError: uvloop's word for a write on a connection that was reset a moment ago.
AWAY = (OSError, EOFError, errors.KafkaError, ValueError, struct.error, RuntimeError)
TROUBLES = (
    (LOGIN, Reason.REFUSED, "logging in to the broker fails"),
    (ssl.SSLCertVerificationError, Reason.REFUSED, "the broker's certificate does not verify"),
    (REFUSALS, Reason.REFUSED, "the broker refuses this"),
    (AWAY, Reason.UNREACHABLE, "the broker cannot be reached"),
)


@dataclass(frozen=True, slots=True)
class Settings:
    """What the config says, as the parts of the adapter read it. Times are in seconds, sizes in bytes."""

    seeds: tuple[tuple[str, int], ...]
    wire: Mapping[str, Any]
    """Keywords of a single connection."""
    client: Mapping[str, Any]
    """Keywords of a consumer."""
    name: str = "-"
    """Of the backend, for metrics and logs."""
    request_s: float = 5.0
    away_s: float = 1.5
    start_s: float = 10.0
    stop_s: float = 5.0
    buffer: int = 32 << 20
    record: int = 1_048_000
    batch: int = 64 << 10
    compression: str | None = None
    transactional: str = "polygate"
    """What the transactional producers are called, less their number."""
    transactions: int = 4
    create: tuple[int, int] | None = None
    """Partitions and replicas of a topic that is made where it is missing."""


class Wire:
    """One connection to one broker, opened when it is needed."""

    def __init__(self, host: str, port: int, options: Mapping[str, Any]) -> None:
        self._where = (host, port)
        self._options = options
        self._opening = asyncio.Lock()
        self._conn: AIOKafkaConnection | None = None
        self.lost = asyncio.Event()

    async def open(self) -> AIOKafkaConnection:
        """The connection. Raises what AWAY and REFUSALS list."""
        async with self._opening:
            if self._conn is None or not self._conn.connected():
                self.lost.clear()
                self._conn = await create_conn(*self._where, on_close=self._closed, **self._options)
            return self._conn

    async def ask(self, request: object) -> Any:
        """The broker's response. Raises what AWAY and REFUSALS list."""
        return await (await self.open()).send(request)

    def _closed(self, _conn: object, _reason: object) -> None:
        self.lost.set()

    async def close(self) -> None:
        conn, self._conn = self._conn, None
        if conn is not None and conn.connected():
            await asyncio.wait([conn.close()], timeout=1)


class Broker:
    """One broker as it is known now."""

    def __init__(self, host: str, port: int, options: Mapping[str, Any]) -> None:
        self.where = (host, port)
        self._pulse = Wire(host, port, options)
        self._work = Wire(host, port, options)
        self._records = Wire(host, port, options)

    async def ready(self, within: float) -> None:
        """Return once there is a connection for records. TimeoutError, which is one of AWAY, where there is none in time."""
        async with asyncio.timeout(within):
            await self._records.open()

    async def produce(self, request: object, within: float, sent: Callable[[], None]) -> Any:
        """The response to records; `sent` is called once they have gone out. After an error the connection is not used again."""
        try:
            async with asyncio.timeout(within):
                conn = await self._records.open()
            # What it returns is only waited for: the request is written when it returns.
            answered = conn.send(request)
            sent()
            return await answered
        except BaseException:
            await self._records.close()
            raise

    async def ask(self, request: object) -> Any:
        """A response, for work that may take its time."""
        return await self._work.ask(request)

    async def pulse(self, within: float) -> Any:
        """The broker's view of the cluster; raises the reason why it is away. Its connections are then not used again."""
        async with asyncio.TaskGroup() as group:
            asking = group.create_task(self._answer())
            # Twice the half: when this very process stood still, the answer is there by the second wait.
            for _ in range(2):
                await asyncio.wait([asking], timeout=within / 2)
            asking.cancel()
        answer = TimeoutError("no answer in time") if asking.cancelled() else asking.result()
        if isinstance(answer, BaseException):
            await self.close()
            raise answer
        return answer

    async def _answer(self) -> Any:
        try:
            return await self._pulse.ask(MetadataRequest([]))
        except AWAY as error:
            return error

    async def quiet(self, seconds: float) -> None:
        """Wait, but no longer than the connection stands."""
        try:
            async with asyncio.timeout(seconds):
                await self._pulse.lost.wait()
        except TimeoutError:
            return

    async def close(self) -> None:
        for wire in (self._pulse, self._work, self._records):
            await wire.close()


async def end(stop: Callable[[], Awaitable[None]], close: Callable[[], Awaitable[None]], within: float) -> None:
    """End a client of the library: its `stop` hangs while the broker is away, and may raise the cancellation of its own task."""
    try:
        async with asyncio.timeout(within):
            await stop()
    except AWAY as error:
        log.warning("kafka: a client did not end well: %r", error)
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
    finally:
        with suppress(TimeoutError):
            async with asyncio.timeout(1):
                await close()
