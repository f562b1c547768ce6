"""A config file, loaded: kinds resolved, every field validated, every problem told at once with its line and a remedy."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

from gateway import registry
from gateway.change import paths_in
from gateway.codec import NO_CONTRACTS, Contract, Contracts, Format
from gateway.contract import contracts, schema_contract, schema_digests
from gateway.file import FileConfig, JsonConfig, RouteConfig, SchemaConfig, ServiceConfig
from gateway.listener import ListenerConfig
from gateway.merge import read_all
from gateway.policy import PolicyConfig
from gateway.port import BackendConfig
from gateway.remedy import did_you_mean, validated
from gateway.source import Source, Where
from gateway.target import TargetConfig

VERBS = ("call", "publish", "ask", "results", "tail")


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A call of a service that is not served, and why."""

    protocol: str
    call: str
    origin: str
    why: str


@dataclass(slots=True)
class Route:
    """A route with its parts validated. `where` is its path in the file."""

    config: RouteConfig
    where: Where
    to: TargetConfig
    policies: tuple[PolicyConfig, ...]
    origins: Mapping[tuple[str, str], str] | None = None
    """Where each call is written, by protocol and call, of a route that follows from an entry of `services:`; None where
    somebody wrote the route itself.
    """
    contract: Contract | None = None
    """Its own, where JSON Schemas say what its messages mean."""
    left_out: list[LeftOut] = field(default_factory=list)
    """Of such a route, the calls that cannot be served."""


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
    paths: tuple[Path, ...] = ()
    """The files and folders that it was loaded from."""
    workers: int | None = None
    """How many the command line asks for, in place of what the files say."""
    broken: set[str] = field(default_factory=set)
    """The sections in which something is wrong: what may only follow from that is not told as well."""


def load(paths: Path | Sequence[Path], environment: Mapping[str, str] | None = None) -> Config:
    """Read and validate config files, as one. Raises ConfigError where they are no config at all; other problems are in its
    source.
    """
    paths = (paths,) if isinstance(paths, Path) else tuple(paths)
    source = read_all(paths, environment)
    value = cast("dict[str, Any]", source.value)
    config = Config(source, FileConfig.model_construct(listeners={}), paths=paths)
    config.broken |= {str(where[0]) for where in source.unfilled if where}
    routes = _file(config, value)
    config.formats = dict(_formats())
    with _section(config, "listeners"):
        config.listeners = _parts(source, registry.INGRESS, config.file.listeners, "listeners")
    with _section(config, "backends"):
        config.backends = _parts(source, registry.BACKEND, config.file.backends, "backends")
    for part in (*config.listeners.values(), *config.backends.values()):
        source.note(*paths_in(part))
    with _section(config, "contracts"):
        if _asks_broken(config):
            config.broken.add("contracts")  # the backend's own problem is noted already
        else:
            config.contracts = contracts(source, config.file.contracts, config.backends)
    config.policies = tuple(policies_of(source, config.file.policies, ("policies",)))
    with _section(config, "routes"):
        for where, route in routes:
            to = target_of(config, route.to, where)
            policies = tuple(policies_of(source, route.policies, (*where, "policies")))
            if to is None:
                continue
            made = Route(route, where, to, policies)
            if isinstance(route.contract, SchemaConfig):
                if route.json_ != JsonConfig():
                    source.wrong((*where, "json"), "is for contracts of protobuf: a JSON Schema says it all by itself")
                made.contract = schema_contract(source, route.contract, to, (*where, "contract"))
                if made.contract is None:
                    continue
                digests = schema_digests(route.name, route.contract, made.contract)
                config.contracts = replace(config.contracts, digests={**config.contracts.digests, **digests})
            config.routes.append(made)
    return config


def _asks_broken(config: Config) -> bool:
    """Whether contracts come from a backend in which something is wrong."""
    wrong = config.file.backends.keys() - config.backends.keys()
    said = (value for entry in config.file.contracts if isinstance(entry, dict) for value in entry.values())
    return any(isinstance(value, str) and value in wrong for value in said)


def _formats() -> Iterator[tuple[str, Format]]:
    """All formats that can be had: a route may meet any that its callers write."""
    for name in registry.kinds(registry.CODEC):
        with suppress(registry.MissingKindError):  # told where a route names it
            yield name, registry.load(registry.CODEC, name)


@contextmanager
def _section(config: Config, name: str) -> Iterator[None]:
    before = len(config.source.problems)
    yield
    if len(config.source.problems) > before:
        config.broken.add(name)


def _file(config: Config, value: Mapping[str, Any]) -> list[tuple[Where, RouteConfig]]:
    """Piece by piece, so that what is wrong with one hides nothing of the others. Returns the routes that are right."""
    source = config.source
    for name in value:
        if name not in FileConfig.model_fields:
            source.wrong((name,), f"unknown field{did_you_mean(name, FileConfig.model_fields)}")
    pieces: dict[str, Any] = {}
    for name in ("contracts", "policies", "documents", "state", "spool", "overload", "drain", "reload", "workers"):
        if value.get(name) is not None:
            piece = validated(source, FileConfig, {"listeners": {"-": {}}, name: value[name]}, ())
            pieces |= {} if piece is None else {name: getattr(piece, name)}
    for name in ("listeners", "backends"):
        with _section(config, name):
            pieces[name] = _named(source, value.get(name), name)
    if not value.get("listeners"):
        source.wrong(("listeners",), 'is missing; for example {public: {kind: rest, bind: "127.0.0.1:8080"}}')
        config.broken.add("listeners")
    with _section(config, "services"):
        found = {name: validated(source, ServiceConfig, part, ("services", name)) for name, part in _services(source, value)}
        pieces["services"] = {name: part for name, part in found.items() if part is not None}
    with _section(config, "routes"):
        routes = list(_routes(source, value.get("routes")))
    config.file = FileConfig.model_construct(**pieces, routes=tuple(route for _, route in routes))
    return routes


def _named(source: Source, value: object, name: str) -> dict[str, Mapping[str, Any]]:
    """The parts of a section by their names."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        source.wrong((name,), "must be a mapping, from a name to a part with its kind")
        return {}
    for key, part in value.items():
        if not isinstance(part, dict):
            source.wrong((name, key), "must be a mapping with a kind")
    return {key: part for key, part in value.items() if isinstance(part, dict)}


def _services(source: Source, value: Mapping[str, Any]) -> Iterator[tuple[str, object]]:
    services = value.get("services")
    if services is not None and not isinstance(services, dict):
        source.wrong(("services",), "must be a mapping, from a service's full name to where its methods go")
        return
    yield from (services or {}).items()


def _routes(source: Source, value: object) -> Iterator[tuple[Where, RouteConfig]]:
    if value is not None and not isinstance(value, list):
        source.wrong(("routes",), "must be a list: each route begins with a dash")
        return
    for index, item in enumerate(value or ()):
        route = validated(source, RouteConfig, item, ("routes", index))
        if route is not None:
            yield ("routes", index), route


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
        part = validated(source, model, value, (name, key)) if model is not None else None
        if part is not None:
            parts[key] = part
    return parts


def policies_of(source: Source, values: Iterable[Mapping[str, Any]], where: Where) -> Iterator[PolicyConfig]:
    """The models of policies in their order, of those that are right."""
    for index, value in enumerate(values):
        model = _kind(source, registry.POLICY, value, (*where, index))
        part = validated(source, model, value, (*where, index)) if model is not None else None
        if part is not None:
            yield part


def target_of(config: Config, said: Mapping[str, Any], where: Where) -> TargetConfig | None:
    """The model of the one verb that `to:` names, of those that its backend has."""
    source, to = config.source, (*where, "to")
    name = said.get("backend")
    if not isinstance(name, str):
        source.wrong(to, f"needs a backend: {', '.join(config.file.backends) or 'there is none under backends yet'}")
        return None
    if name not in config.file.backends:
        if "backends" not in config.broken:
            source.wrong((*to, "backend"), f"there is no backend {name!r}{did_you_mean(name, config.file.backends)}")
        return None
    if name not in config.backends:
        return None  # its own problem is noted already
    model = _verb(source, config.backends[name], said, to)
    target = validated(source, model, said, to) if model is not None else None
    if target is None or target.format in config.formats:
        return target
    wrong = f"there is no format {target.format!r}{did_you_mean(target.format, config.formats)}"
    if target.format in registry.kinds(registry.CODEC):
        try:
            registry.load(registry.CODEC, target.format)
        except registry.MissingKindError as error:
            wrong = str(error)
    source.wrong((*to, "format"), wrong)
    return None


def _verb(source: Source, backend: BackendConfig, target: Mapping[str, Any], to: Where) -> type[TargetConfig] | None:
    """The model of the verb that a target says; its problem is noted where that is not one verb of its backend."""
    said = [verb for verb in VERBS if verb in target]
    wanted = ", ".join(backend.verbs)
    if len(said) == 1 and said[0] in backend.verbs:
        return backend.verbs[said[0]]
    if len(said) > 1:
        source.wrong((*to, said[1]), f"a target has one verb, and this one says {said[0]} too")
    elif said:
        source.wrong((*to, said[0]), f"a {backend.kind} backend cannot {said[0]}; it can {wanted}")
    else:
        known = {name for model in backend.verbs.values() for name in model.model_fields}
        strange = next((name for name in target if name not in known), None)
        where = to if strange is None else (*to, strange)
        hint = "" if strange is None else did_you_mean(strange, backend.verbs)
        source.wrong(
            where, f"unknown field{hint}" if "did you" in hint else f"needs a verb of a {backend.kind} backend: {wanted}"
        )
    return None
