"""A config file, loaded: kinds resolved, every field validated, every problem told at once with its line and a remedy."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from pydantic import Field, ValidationError

from gateway import registry
from gateway.codec import NO_CONTRACTS, Contracts, Format
from gateway.part import Part
from gateway.policy import PolicyConfig
from gateway.port import BackendConfig, ListenerConfig, TargetConfig
from gateway.source import ConfigError, Source, Where, read

PartType = TypeVar("PartType", bound=Part)


class DrainConfig(Part):
    """How the gateway stops."""

    pause: float = Field(default=0.0, ge=0, le=60, examples=[2.0])
    """Seconds between failing readiness and letting go of the listeners, for load balancers to notice."""
    seconds: float = Field(default=10.0, gt=0, le=600)
    """Seconds within which every exchange must have ended, from the signal on."""


class RouteConfig(Part):
    """Which calls go where."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=100, examples=["place-order"])
    """What logs, metrics and errors call it."""
    when: Mapping[str, str | tuple[str, ...]] = Field(
        min_length=1, examples=[{"rest": "POST /orders/{customer}", "grpc": "shop.v1.Orders/Place", "websocket": "/orders"}]
    )
    """The calls that it takes, by protocol; a list where one protocol has several."""
    contract: str | None = Field(default=None, examples=["shop.v1.Orders/Place"])
    """The method that says what its messages mean; that of `when.grpc` unless told."""
    example: Mapping[str, Any] = Field(default_factory=dict, examples=[{"customer": "ada", "sku": "tea", "quantity": 2}])
    """A message that it takes, path variables included: for the line to try it with."""
    policies: tuple[Mapping[str, Any], ...] = ()
    """What runs around its handler, in this order, inside the policies that always do."""
    to: Mapping[str, Any] = Field(examples=[{"backend": "events", "publish": "orders.placed", "key": "{customer}"}])
    """The target: a backend, a verb with what it is done to, and the verb's settings."""


class FileConfig(Part):
    """A whole config file. What stands under listeners, backends, policies and `to` has the fields of its kind."""

    contracts: tuple[str, ...] = Field(default=(), examples=[["protos/shop.binpb"]])
    """Descriptor sets (protoc --descriptor_set_out --include_imports); a relative path starts at this file's folder."""
    listeners: Mapping[str, Mapping[str, Any]] = Field(min_length=1)
    """Where calls come in, by name."""
    backends: Mapping[str, Mapping[str, Any]] = Field(default_factory=dict)
    """Where they go, by name."""
    policies: tuple[Mapping[str, Any], ...] = ()
    """What runs around the handler of every route, before the route's own."""
    routes: tuple[RouteConfig, ...] = ()
    """Which calls go where."""
    drain: DrainConfig = DrainConfig()
    """How the gateway stops."""


@dataclass(slots=True)
class Route:
    """A route with its parts validated. `where` is its path in the file."""

    config: RouteConfig
    where: Where
    to: TargetConfig
    policies: tuple[PolicyConfig, ...]


@dataclass(slots=True)
class Config:
    """Everything a file says, validated part by part; whether the parts fit together is for `plan`."""

    source: Source
    file: FileConfig
    listeners: dict[str, ListenerConfig] = field(default_factory=dict)
    backends: dict[str, BackendConfig] = field(default_factory=dict)
    policies: tuple[PolicyConfig, ...] = ()
    routes: list[Route] = field(default_factory=list)
    contracts: Contracts = NO_CONTRACTS
    formats: dict[str, Format] = field(default_factory=dict)


def load(path: Path, environment: Mapping[str, str] | None = None) -> Config:
    """Read and validate a config file. Raises ConfigError with every problem found."""
    source = read(path, environment)
    if not isinstance(source.value, dict):
        source.wrong((), "a config is a mapping with `listeners`, `backends` and `routes`; `polygate init` writes one")
        raise ConfigError(source.problems)
    file = _validated(source, FileConfig, source.value, ())
    if file is None:
        raise ConfigError(source.problems)
    config = Config(source, file)
    config.formats = {name: registry.load(registry.CODEC, name) for name in registry.kinds(registry.CODEC)}
    config.contracts = _contracts(config)
    config.listeners = _parts(source, registry.INGRESS, file.listeners, "listeners")
    config.backends = _parts(source, registry.BACKEND, file.backends, "backends")
    config.policies = tuple(_policies(source, file.policies, ("policies",)))
    for index, route in enumerate(file.routes):
        where: Where = ("routes", index)
        to = _target(config, route, where)
        policies = tuple(_policies(source, route.policies, (*where, "policies")))
        if to is not None:
            config.routes.append(Route(route, where, to, policies))
    return config


def _validated(source: Source, model: type[PartType], value: object, where: Where) -> PartType | None:
    """One model over one value; its problems are noted with their lines, and None returned."""
    try:
        return model.model_validate(value)
    except ValidationError as errors:
        for error in errors.errors(include_url=False):
            location = tuple(step for step in error["loc"] if not (isinstance(step, str) and step.startswith("function-")))
            at = (*where, *location)
            if error["type"] == "extra_forbidden":
                source.wrong(at, f"unknown field{did_you_mean(str(location[-1]), _fields(model, location))}")
            elif error["type"] == "missing":
                source.wrong(at, f"is missing{_example(model, location)}")
            else:
                source.wrong(at, _sentence(error["msg"]))
        return None


def _sentence(message: str) -> str:
    message = message.removeprefix("Value error, ")
    return message[0].lower() + message[1:]


def _fields(model: type[Part], location: tuple[str | int, ...]) -> Iterable[str]:
    """The field names that were possible where a location ends."""
    known: Any = model
    for step in location[:-1]:
        if isinstance(step, int) or not isinstance(known, type) or not issubclass(known, Part):
            continue
        inner = known.model_fields.get(step)
        annotation = inner.annotation if inner else None
        arguments = [kind for kind in getattr(annotation, "__args__", ()) if isinstance(kind, type) and issubclass(kind, Part)]
        known = arguments[0] if arguments else annotation
    return known.model_fields if isinstance(known, type) and issubclass(known, Part) else ()


def _example(model: type[Part], location: tuple[str | int, ...]) -> str:
    known = model.model_fields.get(str(location[-1])) if len(location) == 1 else None
    return f"; for example {known.examples[0]!r}" if known is not None and known.examples else ""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A remedy for a misspelt name: the nearest known one, or all of them."""
    names = list(known)
    near = difflib.get_close_matches(word, names, n=1, cutoff=0.5)
    if near:
        return f'; did you mean "{near[0]}"?'
    return f"; there are {', '.join(names)}" if names else ""


def _kind(source: Source, group: str, value: Mapping[str, Any], where: Where) -> Any:
    """The config model that a part names, or None with the problem noted."""
    kind = value.get("kind")
    known = registry.kinds(group)
    if not isinstance(kind, str):
        source.wrong(where, f"needs a kind: {', '.join(known)}")
    elif kind not in known:
        source.wrong((*where, "kind"), f"there is no kind {kind!r}{did_you_mean(kind, known)}")
    else:
        try:
            return registry.load(group, kind)
        except registry.MissingKindError as error:
            source.wrong((*where, "kind"), str(error))
    return None


def _parts(source: Source, group: str, values: Mapping[str, Mapping[str, Any]], name: str) -> dict[str, Any]:
    parts: dict[str, Any] = {}
    for key, value in values.items():
        model = _kind(source, group, value, (name, key))
        if model is None:
            continue
        part = _validated(source, model, value, (name, key))
        if part is not None:
            parts[key] = part
    return parts


def _policies(source: Source, values: Iterable[Mapping[str, Any]], where: Where) -> Iterable[PolicyConfig]:
    for index, value in enumerate(values):
        model = _kind(source, registry.POLICY, value, (*where, index))
        part = _validated(source, model, value, (*where, index)) if model is not None else None
        if part is not None:
            yield part


def _target(config: Config, route: RouteConfig, where: Where) -> TargetConfig | None:
    """The model of the one verb that `to:` names, of those that its backend has."""
    source, to = config.source, (*where, "to")
    name = route.to.get("backend")
    if not isinstance(name, str):
        source.wrong(to, f"needs a backend: {', '.join(config.file.backends) or 'there is none under backends yet'}")
        return None
    if name not in config.file.backends:
        source.wrong((*to, "backend"), f"there is no backend {name!r}{did_you_mean(name, config.file.backends)}")
        return None
    if name not in config.backends:
        return None  # its own problem is noted already
    backend = config.backends[name]
    verbs = [verb for verb in backend.verbs if verb in route.to]
    if len(verbs) != 1:
        wanted = ", ".join(backend.verbs)
        others = [verb for verb in ("call", "publish", "ask", "tail") if verb in route.to and verb not in backend.verbs]
        if others:
            source.wrong((*to, others[0]), f"a {backend.kind} backend cannot {others[0]}; it can {wanted}")
        else:
            source.wrong(to, f"needs one verb that a {backend.kind} backend has: {wanted}")
        return None
    target = _validated(source, backend.verbs[verbs[0]], route.to, to)
    if target is not None and target.format not in config.formats:
        source.wrong((*to, "format"), f"there is no format {target.format!r}{did_you_mean(target.format, config.formats)}")
        return None
    return target


def _contracts(config: Config) -> Contracts:
    """The methods of every descriptor set; a relative path starts at the config file's folder."""
    files: list[bytes] = []
    for index, name in enumerate(config.file.contracts):
        try:
            files.append((config.source.folder / name).read_bytes())
        except OSError as error:
            reason = (error.strerror or "no reason given").lower()
            config.source.wrong(("contracts", index), f"{name} cannot be read ({reason}); it is looked for beside this file")
    if not files:
        return NO_CONTRACTS
    try:
        contracts: Contracts = registry.load(registry.CODEC, "protobuf").contracts(files)
    except (ValueError, registry.MissingKindError) as error:
        config.source.wrong(("contracts",), str(error))
        return NO_CONTRACTS
    return contracts
