"""`polygate routes`."""

from __future__ import annotations

import argparse

from gateway.command import OK, say, say_columns, say_json
from gateway.plan import plan


def routes(options: argparse.Namespace) -> int:
    """List the routes."""
    table = plan(options.config).rows()
    if options.json:
        say_json({"routes": table})
        return OK
    lines = [("ROUTE", "CALLS", "TARGET", "FROM")]
    for row in table:
        first = (row["route"], f"{row['backend']}: {row['verb']} {row['target']}")
        carried: dict[tuple[str, str], list[str]] = {}
        for call in row["calls"]:
            carried.setdefault((call["call"], call["origin"]), []).append(call["protocol"])
        for number, ((call, origin), protocols) in enumerate(carried.items()):
            route, target = first if number == 0 else ("", "")
            lines.append((route, f"{', '.join(protocols)} {call}", target, origin))
    say_columns(lines)
    for row in table:
        for call in row["left_out"]:
            say(f"left out: {row['route']} {call['protocol']} {call['call']} ({call['origin']}): {call['why']}")
    return OK
