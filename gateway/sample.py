"""What becomes of a message on its way through a route, found out by sending it through without the target."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from gateway.attempt import parted
from gateway.binding import Binding, PlannedRoute
from gateway.codec import ABSENT, NOTHING_GIVEN
from gateway.errors import FieldError, GatewayError
from gateway.exchange import Call, Exchange, Handler, Memory
from gateway.message import JSON, Message
from gateway.pipeline import pipeline
from gateway.plan import Plan, bound
from gateway.topic.ask import AskTo
from gateway.topic.publish import Addressing, PublishTo, record_headers
from gateway.topic.tail import TailTo
from gateway.transcode import transcode


def becomes(plan: Plan, route: PlannedRoute, binding: Binding, call: Call, body: str | None) -> dict[str, Any]:
    """The message that leaves for the target, or why it would not."""
    if isinstance(route.to, TailTo):
        return {}
    if body is None and binding.rule.body:
        _, _, example = parted(binding, route.example)
        if not route.example or example is ABSENT:
            return {}
        body = json.dumps(example)
    left: dict[str, Any] = {}

    async def catch(exchange: Exchange) -> None:
        left.update(_left(plan, route, call, await exchange.receive()))

    media = plan.config.formats[route.to.format].content_types[0] if _raw(plan, route, binding) else JSON
    exchange = Memory(Message((body or "").encode(), media), call=call)
    refused = _through(plan, route, binding, catch, exchange)
    return {"given": body, **({"refused": refused} if refused else left)}


def answered(plan: Plan, route: PlannedRoute, binding: Binding, call: Call, reply: str) -> dict[str, Any]:
    """What the caller gets for what the target answers, or why it would not."""
    form, contract = plan.config.formats[route.to.format], route.target_contract
    if route.to.verb == "publish":
        form = plan.config.formats["json"]  # a receipt is ours
    kind = contract.reply if contract is not None and form.typed else None

    async def answer(exchange: Exchange) -> None:
        body = (
            reply.encode() if form.opaque else transcode(plan.config.formats["json"], form, kind)(reply.encode(), NOTHING_GIVEN)
        )
        await exchange.send(Message(body, form.content_types[0], cursor="(its cursor)" if route.to.verb == "tail" else None))

    exchange = Memory(call=call)
    refused = _through(plan, route, binding, answer, exchange)
    replies: Sequence[str] = [message.body.decode("utf-8", "backslashreplace") for message in exchange.replies]
    return {"answer": reply, "replies": replies, **({"failed": refused} if refused else {})}


def _through(plan: Plan, route: PlannedRoute, binding: Binding, handler: Handler, exchange: Exchange) -> dict[str, Any] | None:
    """Run what stands next to the target around a handler in its place. What refuses, if anything does."""

    async def run() -> None:
        await pipeline(plan.inner(route, binding), handler)(exchange)

    try:
        asyncio.run(run())
    except GatewayError as error:
        cause = error.__cause__ if isinstance(error.__cause__, GatewayError) else error
        errors = [asdict(detail) for detail in cause.details if isinstance(detail, FieldError)]
        return {
            "reason": error.reason.value,
            "detail": error.message,
            "errors": errors,
            "places": getattr(cause, "__notes__", []),
        }
    return None


def _raw(plan: Plan, route: PlannedRoute, binding: Binding) -> bool:
    """Whether the target's messages are not written in JSON by callers either."""
    form = plan.config.formats[route.to.format]
    return not (form.typed or form.pairs or form.name == "json" or any(policy.opens for policy in binding.policies))


def _left(plan: Plan, route: PlannedRoute, call: Call, message: Message) -> dict[str, Any]:
    shown = message.body.decode("utf-8", "backslashreplace")
    if not isinstance(route.to, PublishTo | AskTo):
        return {"request": {"content_type": message.content_type, "body": shown}}
    topic = route.to.publish if isinstance(route.to, PublishTo) else route.to.ask
    topic, key = Addressing(bound(plan.config, route), topic, route.to.key)(call, message)
    headers = {name: value for name, value in record_headers(call, message) if name != "x-request-id"}
    return {
        "record": {
            "topic": topic,
            "key": key.decode() if key is not None else None,
            "headers": {**headers, "x-request-id": "(the exchange's id)", "traceparent": "(the exchange's trace)"},
            "body": shown,
        }
    }
