"""The verb `tail`: a topic, out to the caller, each message with its cursor."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any, ClassVar, Literal

from pydantic import Field

from gateway.codec import Contract
from gateway.errors import CallerError, GatewayError, Reason, resumable
from gateway.exchange import Call, EndOfMessages, Exchange, Handler, first
from gateway.expression import ExpressionError
from gateway.message import STARTS, Headers, Many
from gateway.target import Target, TargetConfig
from gateway.template import Template
from gateway.topic.event import EVENT, cursor_of
from gateway.topic.feed import Feeds
from gateway.topic.filter import Filter, Selection
from gateway.topic.follower import Follower
from gateway.topic.log import Log, gone
from gateway.topic.opening import OPTIONS, opening_of, place, wrong
from gateway.topic.pouring import Events, Pouring, Terms, Wanted, too_slow
from gateway.topic.slow import Behind, Slow
from gateway.topic.subscriber import Places, Subscribers
from gateway.topic.turn import Turn

TALKERS = frozenset({"websocket", "grpc"})
"""Where a caller can say something while it is sent events."""


class TailTo(TargetConfig):
    """Send a topic's messages to the caller as they come, each with a cursor to resume after it."""

    verb: ClassVar[str] = "tail"
    streams: ClassVar[Many] = Many.REPLIES
    safe: ClassVar[bool] = True
    own: ClassVar[bool] = True

    tail: str = Field(min_length=1, examples=["orders.placed", "orders.{region}"])
    """The topic. `{name}` is a path variable or a field of the request."""
    start: Literal["earliest", "latest"] = "latest"
    """Where a caller starts that does not say."""
    envelope: bool = False
    """Over NDJSON and JSON array: events (cursor, key, timestamp, headers, body) in place of bare bodies."""

    filter: str | None = Field(
        default=None, min_length=1, max_length=4096, examples=['body.quantity > 2 && headers["x-tenant"] == query.tenant']
    )
    """A CEL expression over body, key, headers, timestamp and cursor of each event, and params, query and request of the caller:
    only events of which it is true are sent. One on which it fails is passed over, and that is logged; cursors go on.
    """
    on_gap: Literal["refuse", "tell"] = "refuse"
    """Where the topic no longer has what comes after a cursor: `refuse` the caller (422), or go on with what there is and `tell`
    what is missing by an event of its own. So is a record told that cannot be shown in the caller's format; under `refuse` it is
    passed over, counted and logged.
    """
    slow: Slow = "wait"
    """What becomes of a caller that is too far `behind`. `wait`: nothing, it is sent all there is, as it takes it. `conflate`: of
    each key it is sent the newest record alone, until it has caught up. `drop_oldest`: it goes on with the newest, and is told
    what is missing. `disconnect`: it is let go of, with the cursor to go on with.
    """
    behind: Behind = Behind()
    """What too far is."""
    subscribers: Subscribers | None = None
    """Over a WebSocket or a bidirectional gRPC method, callers have a name, acknowledge what they get, and go on after that when
    they come back. Where one starts that was never there, `start` says.
    """

    @property
    def tells(self) -> bool:
        """Its callers may be told of gaps."""
        return self.on_gap == "tell" or self.slow == "drop_oldest"

    def many(self, contract: Contract | None) -> Many:
        talks = contract.many is Many.BOTH if contract is not None else self.subscribers is not None
        return Many.BOTH if talks else Many.REPLIES

    def templates(self) -> Sequence[str]:
        return (self.tail,)

    def needs(self) -> AbstractSet[str]:
        return frozenset({"state"}) if self.subscribers is not None else frozenset()

    def keeps(self) -> Mapping[tuple[str, ...], float]:
        return {} if self.subscribers is None else {("subscribers", "keep"): self.subscribers.keep}

    def refusals(self, contract: Contract | None) -> Sequence[str]:
        refusals = []
        if self.filter is not None:
            try:
                Filter(self.filter, json.loads)
            except ExpressionError as error:
                refusals.append(f"filter: {error}")
        if contract is not None and self.tells and (contract.reply.name != EVENT or "gap" not in contract.reply.fields):
            refusals.append(f"a gap can be told where the contract replies in {EVENT} alone, as protos/polygate/v1 has it")
        if self.subscribers is not None and self.on_gap == "refuse":
            refusals.append("a subscriber whose place the topic no longer has could never come back: say on_gap: tell")
        if contract is not None and self.subscribers is not None:
            if contract.many is not Many.BOTH:
                refusals.append("subscribers acknowledge what they get: make the method bidirectional")
            elif "ack" not in contract.request.fields:
                refusals.append(f"subscribers acknowledge what they get: {contract.request.name} has no field ack")
        return tuple(refusals)


async def _asked(exchange: Exchange, target: Target, known: frozenset[str]) -> Mapping[str, object]:
    """The URL of a WebSocket, whose caller need not speak first where it may send many messages; and the first message."""
    call, url = exchange.call, dict[str, object]()
    if call.protocol == "websocket":
        url = dict(call.query)
        if len(url) < len(call.query) or not url.keys() <= known:
            names = " and ".join(sorted(known, reverse=True))
            raise CallerError(Reason.MALFORMED, f"the query takes {names}, once each")
        if call.many & Many.REQUESTS:
            return url
    try:
        message = await exchange.receive()
    except EndOfMessages:
        return url
    return {**url, **target.fields(message.body)} if message.body else url


class Tail:
    """One route's tail. Its handler runs once for each caller."""

    def __init__(self, log: Log, feeds: Feeds, target: Target, spec: TailTo) -> None:
        self._log = log
        self._feeds = feeds
        self._target = target
        self._spec = spec
        self._topic = Template(spec.tail)
        self._filter = Filter(spec.filter, target.opened) if spec.filter is not None else None
        self._places: Places | None = None
        self._name = Template("")
        if spec.subscribers is not None:
            self._name = Template(spec.subscribers.name)
            assert target.state is not None  # noqa: S101  it is among what this target needs
            self._places = Places(target.state, target.route, spec.subscribers, feeds.tasks)
        self._terms = Terms(target.route, Events(target.content_type), spec.tells, spec.slow, spec.behind.lag())
        self._known = OPTIONS | frozenset(self._name.names) | (self._filter.queried if self._filter is not None else frozenset())

    async def run(self, exchange: Exchange) -> None:
        """See `Handler`."""
        call, spec = exchange.call, self._spec
        # A WebSocket has frames for it, whatever the method takes.
        talks = call.protocol == "websocket" or bool(call.many & Many.REQUESTS)
        if self._places is not None and (not talks or call.protocol not in TALKERS):
            text = "this feed is acknowledged by whoever reads it: come by a WebSocket or by bidirectional gRPC"
            raise CallerError(Reason.NOT_IMPLEMENTED, text)
        asked = await _asked(exchange, self._target, self._known | {"credit"} if talks else self._known)
        if talks and asked.get("ack"):
            raise wrong("ack", "is the cursor of no event that was sent here")
        name = self._name.render(call.params, lambda: asked)
        resumed = call.headers.get("last-event-id") if self._places is None else await self._places.open(name, call.id)
        opening = opening_of({**asked, **({"start": resumed} if resumed else {})}, spec.start, snapshot=call.snapshot)
        topic = self._topic.render(call.params, lambda: asked)
        async with self._feeds.following(topic) as feed:
            start = await place(self._log, topic, opening.start)
            if start.asked is not None and spec.on_gap == "refuse":
                raise gone(topic)
            until = await self._log.ends(topic) if call.snapshot else None
            session = None
            if self._places is not None:
                session = await self._places.begin(name, cursor_of(start.asked or start.at))
            await exchange.accept(Headers(((STARTS, cursor_of(start.asked or start.at)),)))
            shows = None if self._filter is None else Selection(self._filter, call, asked, topic).shows
            turn = Turn(opening.credit, session) if talks else None
            wanted = Wanted(opening.limit, until, shows, turn, start.asked)
            pouring = Pouring(exchange, Follower(feed, start.at), self._terms, wanted)
            try:
                await self._pour(pouring, [] if turn is None else self._beside(exchange, turn, name))
            except GatewayError as error:
                raise resumable(error, pouring.cursor) from error

    def _beside(self, exchange: Exchange, turn: Turn, name: str) -> Sequence[Coroutine[Any, Any, None]]:
        """What goes on while a caller who talks is sent events. Each may end that, by its error."""
        call = exchange.call
        # Where one message is all that the method takes, its caller has said by the end that this was it, as over gRPC.
        leaves = call.protocol == "websocket" and bool(call.many & Many.REQUESTS)
        hearing = turn.hear(exchange, self._said(call), leaves=leaves)
        return [hearing] if self._places is None else [hearing, self._places.taken(name, call.id)]

    def _said(self, call: Call) -> Callable[[bytes], Mapping[str, object]]:
        """What a message says itself: the variables of the path are in each of them."""
        fields = self._target.fields
        own = {name.partition(".")[0] for name in call.params}
        return (lambda body: {name: what for name, what in fields(body).items() if name not in own}) if own else fields

    async def _pour(self, pouring: Pouring, beside: Sequence[Coroutine[Any, Any, None]]) -> None:
        if not beside:
            await self._patiently(pouring)
            return
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(one) for one in beside]
                await self._patiently(pouring)
                for task in tasks:
                    task.cancel()
        except BaseExceptionGroup as errors:
            error = first(errors)
            if not isinstance(error, EndOfMessages):  # the caller has left
                raise error from errors

    async def _patiently(self, pouring: Pouring) -> None:
        """Pour, for as long as the caller is not too slow where that ends it."""
        if self._spec.slow != "disconnect":
            await pouring.run()
            return
        patience = asyncio.timeout(None)
        try:
            async with patience:
                with self._feeds.watch.over(pouring.lag, self._terms.behind, patience):
                    await pouring.run()
        except TimeoutError as error:
            if patience.expired():
                raise too_slow() from error
            raise


def tail(log: Log, feeds: Feeds, target: Target, spec: TailTo) -> Handler:
    """The handler of one tail target."""
    return Tail(log, feeds, target, spec).run
