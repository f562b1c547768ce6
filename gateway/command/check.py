"""`polygate check`."""

from __future__ import annotations

import argparse

from gateway.command import OK, WRONG, complain, count, in_loop, named, say, say_json
from gateway.plan import Plan, plan
from gateway.probe import AskingError, drift, unready


def check(options: argparse.Namespace) -> int:
    """Tell every problem of a config; with --connect ask its backends too, with --running a gateway that has loaded it."""
    planned = plan(options.config)
    reasons = in_loop(unready(planned.config.backends)) if options.connect else {}
    drifted = _drifted(options.running, planned) if options.running is not None else []
    ok = not reasons and not drifted
    if options.json:
        backends = dict.fromkeys(planned.config.backends, "ready") | reasons if options.connect else {}
        say_json({"ok": ok, "routes": len(planned.routes), "problems": [], "backends": backends, "drift": drifted})
    for name, reason in reasons.items():
        complain(f"{named(options.config)} backends.{name}: {reason}")
    for text in drifted:
        complain(f"{options.running} {text}")
    if not ok:
        return WRONG
    if not options.json:
        asked = f", {count(planned.config.backends, 'backend')} answered" if options.connect else ""
        counts = f"{count(planned.routes, 'route')}, {count(planned.config.listeners, 'listener')}"
        left = sum(len(route.left_out) for route in planned.routes)
        left_out = f"; {count(range(left), 'call')} of services left out (`polygate routes` says why)" if left else ""
        say(f"{named(options.config)}: {counts}: all fits{asked}{left_out}")
    return OK


def _drifted(url: str, planned: Plan) -> list[str]:
    """What a running gateway has otherwise, or why it does not say."""
    try:
        return list(drift(url, planned.config.contracts.digests))
    except AskingError as error:
        return [str(error)]
