"""Services that are served whole: each entry of `services:` is a route for every method, with the calls that its listeners give
it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from gateway.codec import Contract
from gateway.config import VERBS, Config, LeftOut, Route, policies_of, target_of
from gateway.file import CallConfig, MethodConfig, RouteConfig, ServiceConfig
from gateway.remedy import did_you_mean
from gateway.source import Where
from gateway.wire import Wire

Wires = Mapping[str, Sequence[Wire]]
"""The protocols that the listeners speak, by the name that routes have for them under `when:`."""


def service_routes(config: Config, wires: Wires) -> Iterator[Route]:
    """The routes that follow from `services:`. Every problem is noted in the config's source."""
    if "contracts" in config.broken:
        return
    known = dict.fromkeys(name.partition("/")[0] for name in config.contracts.methods)
    for name, service in config.file.services.items():
        if name not in known:
            remedy = did_you_mean(name, known) or "; name the files that define it under `contracts:`"
            config.source.wrong(("services", name), f"no contract has the service {name}{remedy}")
            continue
        methods = {full.partition("/")[2]: one for full, one in config.contracts.methods.items() if full.startswith(f"{name}/")}
        for method in service.methods:
            if method not in methods:
                where = ("services", name, "methods", method)
                config.source.wrong(where, f"{name} has no method {method}{did_you_mean(method, methods)}")
        for method, contract in methods.items():
            said = service.methods.get(method, MethodConfig())
            if isinstance(said, MethodConfig) and (route := _route(config, wires, name, service, said, contract)) is not None:
                yield route


def _route(
    config: Config, wires: Wires, name: str, service: ServiceConfig, said: MethodConfig, contract: Contract
) -> Route | None:
    own: Where = ("services", name, "methods", contract.name.partition("/")[2])
    to_where = ("services", name) if said.to is None else own
    to = target_of(config, _target(config, service.to if said.to is None else said.to, contract), to_where)
    values, where = (service.policies, ("services", name)) if said.policies is None else (said.policies, own)
    policies = tuple(policies_of(config.source, values, (*where, "policies")))
    if to is None:
        return None
    when: dict[str, tuple[CallConfig, ...]] = {}
    origins: dict[tuple[str, str], str] = {}
    left_out: list[LeftOut] = []
    line = config.source.origin(own)
    for protocol, (wire, *_) in wires.items():
        for call in wire.calls(contract):
            text = " ".join(part for part in (call.method, call.path) if part)
            origin = call.origin or line
            if call.wrong:
                left_out.append(LeftOut(protocol, text, origin, call.wrong))
                continue
            body = call.body if wire.rule(call.method).http else None
            written = CallConfig.model_construct(call=text, body=body, response_body=call.response_body)
            when[protocol] = (*when.get(protocol, ()), written)
            origins[protocol, text] = origin
    route = RouteConfig.model_construct(
        name=contract.name.replace("/", "."),
        when=when,
        contract=contract.name,
        to=service.to if said.to is None else said.to,
        example=said.example,
        json_=service.json_,
        unknown_query=service.unknown_query,
        method_override=service.method_override,
    )
    return Route(route, to_where, to, policies, origins, left_out=left_out)


def _target(config: Config, to: Mapping[str, Any], contract: Contract) -> Mapping[str, Any]:
    """The target with the verb that its backend has for the method, where it says none."""
    backend = config.backends.get(str(to.get("backend")))
    if backend is None or any(verb in to for verb in VERBS):
        return to
    return {**to, **backend.calling(contract)}
