"""The services that a gRPC server owes its callers, as handlers of exchanges: grpc.health.v1, grpc.reflection.v1 and v1alpha.

They see the gateway through its view alone, and run like any route: the same limits, the same draining.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from google.protobuf import any_pb2, descriptor_pb2, duration_pb2
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2
from grpc_reflection.v1alpha.reflection import ReflectionServicer

from gateway.codec import Contracts
from gateway.errors import CallerError, Reason
from gateway.exchange import EndOfMessages, Exchange
from gateway.listener import View
from gateway.message import PROTOBUF, Many, Message
from gateway.pipeline import answerable
from gateway.route import Endpoint

HEALTH = "grpc.health.v1.Health"
REFLECTIONS = ("grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection")
_DEPENDENCIES = (any_pb2.DESCRIPTOR, duration_pb2.DESCRIPTOR)
# What error details are made of stands among them, so that a client without our files can read an error as well.
_OURS = (*_DEPENDENCIES, error_details_pb2.DESCRIPTOR, health_pb2.DESCRIPTOR, reflection_pb2.DESCRIPTOR)
_LISTED = (HEALTH, REFLECTIONS[1])

# `View.ready` is a plain flag: a watcher looks at it this often.
WATCH_S = 1.0


def services(view: View, *, health: bool, reflection: bool) -> Mapping[str, Endpoint]:
    """Endpoints by gRPC path, for paths that have no route."""
    found: dict[str, Endpoint] = {}
    if health:
        state = _Health(view)
        found[f"/{HEALTH}/Check"] = Endpoint(HEALTH, answerable(state.check))
        found[f"/{HEALTH}/Watch"] = Endpoint(HEALTH, answerable(state.watch), Many.REPLIES)
    if reflection:
        handler = answerable(_Reflection(view).talk)
        found |= {f"/{name}/ServerReflectionInfo": Endpoint(name, handler, Many.BOTH) for name in REFLECTIONS}
    return found


def routed(view: View) -> tuple[str, ...]:
    """The services of the contracts that have a route."""
    names = {name.rpartition("/")[0] for name in view.contracts.methods if view.find("grpc", f"/{name}").error is None}
    return tuple(sorted(names))


class _Health:
    def __init__(self, view: View) -> None:
        self._view = view

    async def check(self, exchange: Exchange) -> None:
        state = self._state(_health_request(await exchange.receive()))
        if state == health_pb2.HealthCheckResponse.SERVICE_UNKNOWN:
            raise CallerError(Reason.NOT_FOUND, "no such service is served here")
        await exchange.send(_health_reply(state))

    async def watch(self, exchange: Exchange) -> None:
        """An unknown service is watched too, for it may come (health.proto)."""
        service = _health_request(await exchange.receive())
        last = None
        while True:
            state = self._state(service)
            if state != last:
                await exchange.send(_health_reply(state))
                last = state
            await asyncio.sleep(WATCH_S)

    def _state(self, service: str) -> int:
        # "" is the whole server.
        if service not in ("", *_LISTED) and service not in routed(self._view):
            return health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
        return health_pb2.HealthCheckResponse.SERVING if self._view.ready else health_pb2.HealthCheckResponse.NOT_SERVING


def _health_request(message: Message) -> str:
    try:
        return health_pb2.HealthCheckRequest.FromString(message.body).service
    except DecodeError as error:
        raise CallerError(Reason.MALFORMED, "not a HealthCheckRequest") from error


def _health_reply(state: int) -> Message:
    return Message(health_pb2.HealthCheckResponse(status=state).SerializeToString(), PROTOBUF)


class _Reflection:
    """grpcio-reflection has v1alpha only; v1 is the same messages under another package, so one handler serves both."""

    def __init__(self, view: View) -> None:
        self._view = view
        self._built: tuple[Contracts, DescriptorPool] | None = None

    async def talk(self, exchange: Exchange) -> None:
        servicer = ReflectionServicer((*routed(self._view), *_LISTED), self._pool())
        # It answers each request with one reply, and does not look at its context.
        answer: Any = servicer.ServerReflectionInfo
        try:
            while True:
                request = _reflection_request(await exchange.receive())
                for reply in answer((request,), None):
                    await exchange.send(Message(reply.SerializeToString(), PROTOBUF))
        except EndOfMessages:
            return

    def _pool(self) -> DescriptorPool:
        contracts = self._view.contracts
        if self._built is None or self._built[0] is not contracts:
            self._built = (contracts, pool_of(contracts))
        return self._built[1]


def _reflection_request(message: Message) -> reflection_pb2.ServerReflectionRequest:
    try:
        return reflection_pb2.ServerReflectionRequest.FromString(message.body)
    except DecodeError as error:
        raise CallerError(Reason.MALFORMED, "not a ServerReflectionRequest") from error


def pool_of(contracts: Contracts) -> DescriptorPool:
    """Every file of the descriptor sets, and of our own services; a file that stands in two sets is taken from the first."""
    pool = DescriptorPool()
    seen: set[str] = set()
    for serialized in contracts.files:
        for file in descriptor_pb2.FileDescriptorSet.FromString(serialized).file:
            if file.name not in seen:
                seen.add(file.name)
                pool.Add(file)
    for ours in _OURS:
        if ours.name not in seen:
            pool.AddSerializedFile(ours.serialized_pb)
    return pool
