"""What follows from a route's target: the route that is served below its calls' paths, and the backends that it sends to beside
its own.
"""

from __future__ import annotations

from collections.abc import Iterable

from gateway.binding import PlannedRoute
from gateway.config import Config, Route
from gateway.file import CallConfig, RouteConfig
from gateway.remedy import did_you_mean
from gateway.target import TargetConfig
from gateway.topic.result import ResultsOf

REST = "rest"


def below(route: Route, planned: PlannedRoute) -> Route | None:
    """The route that a route has below itself: GET at each of its REST paths with an id behind, under the same policies, so that
    who may ask may fetch, and nobody else. None where its target has nothing there.
    """
    to = route.to.below()
    if to is None or REST not in route.config.when:
        return None
    origins: dict[tuple[str, str], str] = {}
    calls = []
    for call in route.config.calls(REST):
        text = f"GET {call.call.partition(' ')[2].rstrip('/')}/{{id}}"
        calls.append(CallConfig.model_construct(call=text, body=None, response_body=""))
        if route.origins is not None:
            origins[REST, text] = route.origins[REST, call.call]
    config = RouteConfig.model_construct(
        name=f"{route.config.name}.answer",
        when={REST: tuple(calls)},
        condition=route.config.condition,
        contract=None,
        example={},
        to=to.model_dump(),
        policies=route.config.policies,
        method_override=route.config.method_override,
    )
    made = Route(config, route.where, to, route.policies, origins if route.origins is not None else None)
    made.contract = planned.contract
    return made


def check_posts(config: Config, route: Route) -> None:
    """The backends that a target sends to beside its own are there, and are something to post to."""
    wanted = route.to.posts()
    if wanted is None or "backends" in config.broken:
        return
    for name in wanted.backends:
        where = (*route.where, "to", *wanted.where)
        if name not in config.backends:
            config.source.wrong(where, f"there is no backend {name!r}{did_you_mean(name, config.backends)}")
            continue
        posting = config.backends[name].posting(name, wanted.sign)
        if posting is None:
            config.source.wrong(where, f"a {config.backends[name].kind} backend has no URL to post to")
        elif not posting[0].startswith("https://") and not wanted.plain:
            text = f"{name} is called without TLS, so that others may read what is posted: use https, or say plain: true"
            config.source.wrong(where, text)


def check_results(config: Config, routes: Iterable[PlannedRoute]) -> None:
    """Answers are fetched of questions that some route asks and keeps."""
    kept = dict.fromkeys(_question(lower) for route in routes if (lower := route.to.below()) is not None)
    for route in routes:
        if isinstance(route.to, ResultsOf) and _question(route.to) not in kept and "routes" not in config.broken:
            near = did_you_mean(route.to.results, dict.fromkeys(asked for name, asked in kept if name == route.to.backend))
            text = f"no route of this backend has ask: {route.to.results} with later{near or ', so no answer is kept'}"
            config.source.wrong((*route.where, "to", "results"), text)


def _question(to: TargetConfig) -> tuple[str, str]:
    return to.backend, getattr(to, "results", "")
