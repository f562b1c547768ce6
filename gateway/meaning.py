"""What a route's messages mean: the contracts of both its sides, and whether its path, its target and its templates fit them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from gateway.codec import Contract, Format, JsonOptions, Rule
from gateway.config import Config, Route
from gateway.errors import FieldError, GatewayError
from gateway.message import Many
from gateway.remedy import did_you_mean
from gateway.source import Where
from gateway.target import TargetConfig
from gateway.template import Template, TemplateError

_TAIL_OPTIONS = ("start", "limit")
Contracts = tuple[Contract | None, Contract | None]
"""What the caller's messages mean, and what the target's."""


def contracts_of(config: Config, route: Route) -> Contracts | None:
    """The contract of the route's messages (its own or, unless told, the method that gRPC calls it by, or the one that it calls
    itself) and the target's; None where one is not known. They must say the same, but for the messages that a policy builds anew.
    """
    own = route.contract or route.config.contract
    wanted: list[tuple[Contract | str, Where]] = [(own, ("contract",))] if isinstance(own, Contract | str) else []
    wanted += [(called.call, ("when", "grpc")) for called in route.config.calls("grpc")]
    target = route.to.method()
    if target is not None:
        wanted.append((target, ("to", route.to.verb)))
    found = [one if isinstance(one, Contract) else _known(config, route, one, where) for one, where in wanted]
    known = [contract for contract in found if contract is not None]
    if len(known) < len(found):
        return None
    anew = built(config, route)
    # Whatever a policy builds for the target, only the target says what it is.
    callers = known[:-1] if target is not None and anew else known
    for contract, (_, where) in zip(known, wanted, strict=True):
        free = anew if contract not in callers else Many.NEITHER
        if (difference := _difference(contract, (callers or known)[0], free)) is not None:
            config.source.wrong((*route.where, *where), difference)
    mine = _under(callers[0], route.config.json_.options()) if callers else None
    return mine, (known[-1] if target is not None else None if anew & Many.REQUESTS else mine)


def _under(contract: Contract, options: JsonOptions) -> Contract:
    """The contract with its JSON read and written as a route says."""
    if options == JsonOptions():
        return contract
    return replace(contract, request=contract.request.under(options), reply=contract.reply.under(options))


def built(config: Config, route: Route) -> Many:
    """Whose messages the route's policies build anew."""
    anew = Many.NEITHER
    for policy in (*config.policies, *route.policies):
        anew |= policy.builds()
    return anew


def _known(config: Config, route: Route, name: str, field: Where) -> Contract | None:
    found = config.contracts.methods.get(name)
    if found is None and "contracts" not in config.broken:
        remedy = did_you_mean(name, config.contracts.methods) or "; name a descriptor set under `contracts:`"
        config.source.wrong((*route.where, *field), f"no contract has the method {name}{remedy}")
    return found


def _difference(one: Contract, other: Contract, anew: Many) -> str | None:
    if one.request.name != other.request.name and not anew & Many.REQUESTS:
        return f"{one.name} takes {one.request.name}, but {other.name} takes {other.request.name}"
    if one.reply.name != other.reply.name and not anew & Many.REPLIES:
        return f"{one.name} replies {one.reply.name}, but {other.name} replies {other.reply.name}"
    return None if one.many == other.many else f"{one.name} streams otherwise than {other.name}"


def check_target(config: Config, route: Route, contracts: Contracts) -> None:
    """The target can work by itself and on its backend; a format that needs a contract has one, one that cannot carry one has
    none, and the example is a message of it.
    """
    backend = config.backends[route.to.backend]
    callers, contract = contracts
    try:
        for refusal in (*route.to.refusals(contract), *backend.refusals(route.to, contract)):
            config.source.wrong((*route.where, "to", route.to.verb), refusal)
    except TemplateError as error:
        config.source.wrong((*route.where, "to"), str(error))
    form = config.formats[route.to.format]
    where = (*route.where, "to", "format")
    if form.typed and contract is None:
        config.source.wrong(where, f"{form.name} means nothing without a contract; name one with `contract:`")
    if contract is not None and not form.opaque:
        try:
            form.codec(contract.reply if route.to.own else contract.request)
        except ValueError as error:
            config.source.wrong(where, str(error))
    if callers is not None and not form.opaque and route.config.example:
        try:
            callers.request.check(dict(route.config.example))
        except GatewayError as error:
            kind = callers.request
            places = [detail.pointer for detail in error.details if isinstance(detail, FieldError) and detail.pointer]
            what = f"{', '.join(places)} is wrong or missing; " if places else ""
            fields = ", ".join(dict.fromkeys(kind.fields))
            known = f"its fields are {fields}" if fields else error.message
            config.source.wrong((*route.where, "example"), f"is no {kind.name}: {what}{known}")


def check_templates(config: Config, route: Route, contract: Contract | None, names: Sequence[str], protocol: str) -> None:
    """A variable must be in the path or, where it is known which fields there are, in the message."""
    to = (*route.where, "to")
    try:
        texts = config.backends[route.to.backend].templates(route.to)
        wanted = {name for text in texts for name in Template(text).names}
    except TemplateError as error:
        config.source.wrong(to, str(error))
        return
    form = config.formats["json" if route.to.own else route.to.format]
    given, what = _given(form, route.to, contract, protocol)
    if given is None:
        return
    for name in sorted(wanted - {*names, *given}):
        near = did_you_mean(name, dict.fromkeys((*names, *given)))
        config.source.wrong(to, f"{{{name}}} is neither in {protocol}'s path nor {what}{near if 'did you' in near else ''}")


def check_variables(
    config: Config, route: Route, contract: Contract | None, rule: Rule, when: str, wrong: Callable[[str], None]
) -> None:
    """What a path, a query and a body say becomes fields of the message, so the contract must have them."""
    silent = route.to.verb == "tail" and when == "websocket"  # its message is what the URL says of start and limit
    if contract is None or silent or not route.to.reads or config.formats[route.to.format].opaque:
        return
    kind = contract.request
    if kind.binary and not kind.name.startswith("google.protobuf."):
        strange = [name for name in rule.variables if name and name.partition(".")[0] not in kind.fields]
        for name in strange:
            remedy = did_you_mean(name, dict.fromkeys(kind.fields))
            wrong(f"{{{name}}} is no field of {kind.name}, so every call would be refused{remedy}")
        if strange:
            return
    if rule.http:
        try:
            kind.bind(rule)
            if rule.response_body and not built(config, route) & Many.REPLIES:
                contract.reply.pick(rule.response_body)
        except ValueError as error:
            wrong(str(error))


def _given(form: Format, to: TargetConfig, contract: Contract | None, protocol: str) -> tuple[Sequence[str] | None, str]:
    """The fields that a caller's message may give, and what to call them; None where it may have any."""
    if to.verb == "tail" and protocol == "websocket":
        return _TAIL_OPTIONS, "start or limit, which is all that a WebSocket says before a tail"
    if form.opaque or (not form.typed and not isinstance(form.codec(None).decode(b"{}"), dict)):
        return (), f"a field: {form.name} has none"
    if contract is None or not contract.request.binary:
        return None, ""
    return contract.request.fields, f"a field of {contract.request.name}"
