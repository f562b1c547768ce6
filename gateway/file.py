"""What a config file may say: the models of its sections. What stands under listeners, backends, policies and `to` has models
of its own, by kind.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Discriminator, Field, Tag

from gateway.admission import OverloadConfig
from gateway.codec import JsonOptions
from gateway.part import Part, Written

MAX_WORKERS = 64
_NAMED = "letters, digits, dot, dash and underscore, the first a letter or a digit, as in place-order"
_URL = Written(r"^https?://[^\s?#;,]+$", "a URL of http or https without a query, as in https://api.shop.example")
_FIELD = Written(r"^(\*|[A-Za-z_]\w*)?$", 'a field of the message, "*" for the whole, or "" for none')


class DrainConfig(Part):
    """How the gateway stops."""

    pause: float = Field(default=0.0, ge=0, le=60, examples=[2.0])
    """Seconds between failing readiness and letting go of the listeners, for load balancers to notice."""
    seconds: float = Field(default=10.0, gt=0, le=600)
    """Seconds within which the process must have ended, from the end of the pause on: exchanges in the first 85 % of them, and
    what backends have yet to write in the next tenth.
    """


class ReloadConfig(Part):
    """When the config is loaded anew by itself. SIGHUP, and POST /reload on an admin listener, do it at any time."""

    watch: bool = False
    """Whenever a file that it is made of has changed: the config's own, its secrets, contracts, schemas and certificates. Off
    unless told, for a change of several files that is only half on the disk may be a config too.
    """
    every: float = Field(default=2.0, ge=0.1, le=3600)
    """Seconds between two looks at the files. A change is loaded once they have stood still from one look to the next."""


class DocumentsConfig(Part):
    """What OpenAPI and AsyncAPI say of the whole."""

    name: str = Field(default="Polygate", min_length=1, max_length=200, examples=["The shop"])
    """What it is called."""
    version: str = Field(default="1", min_length=1, max_length=100, examples=["2.3.0"])
    """The version of what is served, which is not the gateway's."""
    description: str = Field(default="", max_length=100_000, examples=["Orders, stock and quotes."])
    """What it is for, in Markdown."""
    servers: tuple[Annotated[str, _URL], ...] = Field(default=(), examples=[["https://api.shop.example"]])
    """Where callers reach the REST listeners; where these listen unless told."""


class StateConfig(Part):
    """Where the gateway keeps what must outlive it: idempotency keys, results that are fetched later, cursors of subscribers."""

    path: str = Field(default="var/state.db", min_length=1, examples=["/data/state.db"])
    """The file of its own that it is in, made where something needs it, unless `backend` says otherwise."""
    backend: str | None = Field(default=None, examples=["events"])
    """A backend of topics that keeps it in the place of a file: gateways that share its topic agree."""
    topic: str = Field(default="polygate.state", min_length=1, max_length=249)
    """The topic, compacted, on that backend; made where it is not there. It has one partition."""
    max_bytes: int = Field(default=256 << 20, ge=1 << 20, le=1 << 36)
    """How many bytes may be kept, each key counting 1 KiB at the least; it is all held in memory. Beyond them 503; for new keys
    beyond seven eighths, so that answers find room.
    """
    max_age: float = Field(default=7 * 86_400.0, ge=60, le=366 * 86_400)
    """For how many seconds anything may be kept; routes that ask for longer are refused."""


class SpoolConfig(Part):
    """Where records wait that were acknowledged with `stored`, until their broker has them."""

    path: str = Field(default="var/spool.db", min_length=1, examples=["/data/spool.db"])
    """The file that they are in, made where a route needs it."""
    max_bytes: int = Field(default=1 << 30, ge=1 << 20, le=1 << 44)
    """How many bytes of records may wait or be set aside, in each process; beyond them 503."""
    max_age: float = Field(default=7 * 86_400.0, ge=60, le=366 * 86_400)
    """Seconds after which a record that still waits is set aside: it is told, counted, and forwarded only by hand."""


class CallConfig(Part):
    """A call with what its request and its response stand for (google.api.HttpRule)."""

    call: str = Field(min_length=1, examples=["PATCH /v1/{shelf.name=shelves/*}"])
    """The call, as its protocol writes it."""
    body: Annotated[str, _FIELD] | None = Field(default=None, examples=["shelf"])
    """The field that the body is: `*` for the whole message, `""` for no body. Unless told `*`, and `""` for GET and DELETE."""
    response_body: Annotated[str, _FIELD] = Field(default="", examples=["shelf"])
    """The field of the reply that the response is; the whole unless told."""


class JsonConfig(Part):
    """How the JSON of a protobuf contract is read and written."""

    unknown: Literal["reject", "ignore"] = "reject"
    """What becomes of a field that the contract does not have."""
    defaults: bool = False
    """Write the fields without presence though they have their default."""
    enums: Literal["name", "number"] = "name"
    """How enums are written. Both are read."""
    names: Literal["json", "proto"] = "json"
    """How fields are written: `unitPrice`, or `unit_price` as in the .proto. Both are read."""

    def options(self) -> JsonOptions:
        """The same for a codec."""
        return JsonOptions(self.unknown, self.defaults, self.enums == "number", self.names == "proto")


class SchemaConfig(Part):
    """What messages mean where there is no protobuf: JSON Schemas (2020-12)."""

    request: str | Mapping[str, Any] | None = Field(default=None, examples=["schemas/order.json"])
    """The schema of what the caller sends: a path that starts at this file's folder, or the schema itself."""
    reply: str | Mapping[str, Any] | None = Field(default=None, examples=["schemas/receipt.json"])
    """The schema of each message of the answer: what does not fit is never sent on (502)."""
    formats: bool = False
    """Refuse what is not of its `format` (date-time, email, ...). By the standard that is a remark and no rule."""


def _form(value: object) -> str:
    if isinstance(value, list | tuple):
        return "list"
    return _single(value)


def _single(value: object) -> str:
    return "object" if isinstance(value, Mapping | Part) else "text"


# One model by the shape of what is written, so that a problem is told of that one alone.
One = Annotated[Annotated[str, Tag("text")] | Annotated[CallConfig, Tag("object")], Discriminator(_single)]
When = Annotated[
    Annotated[str, Tag("text")] | Annotated[CallConfig, Tag("object")] | Annotated[tuple[One, ...], Tag("list")],
    Discriminator(_form),
]
Meaning = Annotated[Annotated[str, Tag("text")] | Annotated[SchemaConfig, Tag("object")], Discriminator(_single)]


class CallerConfig(Part):
    """What every route may say of how its callers are read and answered."""

    policies: tuple[Mapping[str, Any], ...] = ()
    """What runs around its handler, in this order, inside the policies that always do."""
    json_: JsonConfig = Field(default=JsonConfig(), alias="json", examples=[{"unknown": "ignore", "defaults": True}])
    """How the JSON of its contract is read and written."""
    unknown_query: Literal["reject", "ignore"] = "reject"
    """What becomes of a query parameter that is no field of the message."""
    method_override: bool = False
    """Take the method from the header X-HTTP-Method-Override where a POST has one."""


class RouteConfig(CallerConfig):
    """Which calls go where."""

    name: Annotated[str, Written(r"^[A-Za-z0-9][A-Za-z0-9._-]*$", _NAMED)] = Field(max_length=200, examples=["place-order"])
    """What logs, metrics and errors call it."""
    when: Mapping[str, When] = Field(
        min_length=1, examples=[{"rest": "POST /orders/{customer}", "grpc": "shop.v1.Orders/Place", "websocket": "/orders"}]
    )
    """The calls that it takes, by protocol; a list where one protocol has several."""
    condition: str | None = Field(
        default=None, alias="if", min_length=1, max_length=4096, examples=['headers["x-tenant"] == "eu"']
    )
    """A CEL expression over params, query, headers and call: only calls of which it is true are for this route."""
    contract: Meaning | None = Field(default=None, examples=["shop.v1.Orders/Place"])
    """The method that says what its messages mean: unless told that of `when.grpc`, or the one that the target calls. Or JSON
    Schemas, by request and reply.
    """
    example: Mapping[str, Any] = Field(default_factory=dict, examples=[{"customer": "ada", "sku": "tea", "quantity": 2}])
    """A message that it takes, path variables included: for the line to try it with."""
    to: Mapping[str, Any] = Field(examples=[{"backend": "events", "publish": "orders.placed", "key": "{customer}"}])
    """The target: a backend, a verb with what it is done to, and the verb's settings."""

    def calls(self, protocol: str) -> tuple[CallConfig, ...]:
        """The calls of one protocol, each with what its body stands for."""
        said = self.when.get(protocol, ())
        return tuple(
            CallConfig.model_construct(call=one) if isinstance(one, str) else one
            for one in (said if isinstance(said, tuple) else (said,))
        )


class MethodConfig(Part):
    """What a service's entry says otherwise for one method."""

    to: Mapping[str, Any] | None = Field(default=None, examples=[{"backend": "events", "publish": "orders.placed"}])
    """Its target, in place of the service's."""
    policies: tuple[Mapping[str, Any], ...] | None = None
    """What runs around its handler in place of the service's policies."""
    example: Mapping[str, Any] = Field(default_factory=dict, examples=[{"customer": "ada", "sku": "tea", "quantity": 2}])
    """A message that it takes: for the line to try it with."""


def _is_out(switch: bool) -> bool:  # noqa: FBT001  a validator is given its value
    if switch:
        raise ValueError("must be a mapping, or false to leave the method out")
    return switch


def _switch(value: object) -> str:
    return "switch" if isinstance(value, bool) else "object"


Out = Annotated[bool, AfterValidator(_is_out), Tag("switch")]
Method = Annotated[Out | Annotated[MethodConfig, Tag("object")], Discriminator(_switch)]


class ServiceConfig(CallerConfig):
    """Every method of a service of the contracts, on every listener that can carry it."""

    to: Mapping[str, Any] = Field(examples=[{"backend": "stock"}])
    """The target of its methods. Without a verb it is what the backend does by itself: a grpc backend calls the method of the
    same name.
    """
    methods: Mapping[str, Method] = Field(
        default_factory=dict, examples=[{"Place": {"to": {"backend": "events", "publish": "orders"}}}]
    )
    """What is otherwise for one method, by its name; `false` leaves it out."""


class FileConfig(Part):
    """A whole config file. What stands under listeners, backends, policies and `to` has the fields of its kind."""

    contracts: tuple[str | Mapping[str, Any], ...] = Field(
        default=(), examples=[["protos", "shop.binpb", {"reflection": "stock"}]]
    )
    """Where services and messages are defined: a .proto file or a folder of them, a descriptor set (protoc
    --descriptor_set_out), or another source, as in {reflection: stock}. A relative path starts at this file's folder.
    """
    listeners: Mapping[str, Mapping[str, Any]] = Field(min_length=1)
    """Where calls come in, by name."""
    backends: Mapping[str, Mapping[str, Any]] = Field(default_factory=dict)
    """Where they go, by name."""
    policies: tuple[Mapping[str, Any], ...] = ()
    """What runs around the handler of every route, before the route's own."""
    services: Mapping[str, ServiceConfig] = Field(
        default_factory=dict, examples=[{"shop.v1.Orders": {"to": {"backend": "stock"}}}]
    )
    """Services of the contracts that are served whole, by their full names; a route that has one of their calls goes before."""
    routes: tuple[RouteConfig, ...] = ()
    """Which calls go where."""
    documents: DocumentsConfig = DocumentsConfig()
    """What OpenAPI and AsyncAPI say of the whole."""
    state: StateConfig = StateConfig()
    """Where the gateway keeps what must outlive it."""
    spool: SpoolConfig = SpoolConfig()
    """Where records wait that were acknowledged with `stored`."""
    overload: OverloadConfig = OverloadConfig()
    """What becomes of calls while the gateway is behind."""
    drain: DrainConfig = DrainConfig()
    """How the gateway stops."""
    reload: ReloadConfig = ReloadConfig()
    """When the config is loaded anew."""
    workers: int = Field(default=1, ge=1, le=MAX_WORKERS, examples=[2])
    """How many processes serve it, on the same ports; limits on rates, connections and concurrency hold for each of them. What it
    says when it is loaded anew counts from the next start.
    """
