"""The router alone: what a call costs by the number of routes, and by the length of its path.

    python -m benchmarks.router [--finds 20000]

CPU time of this process, the best of several rounds that take turns, so that what else runs here touches all alike.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterable
from functools import partial

from gateway.exchange import Exchange
from gateway.route import Endpoint
from gateway.table import Table

FEW, MANY = 10, 10_000
ROUNDS = 7
GOAL = 2.0
"""How many times as much a call may cost with MANY routes as with FEW, and a segment of a long path as one of a short path."""
SHORT, LONG = 1_000, 64_000

# Each kind of pattern, with a call that it takes. Every table has all of them, in equal parts, under a few first segments.
KINDS = {
    "letters alone": ("GET /v1/things-{}/list", "GET /v1/things-{}/list"),
    "one variable": ("GET /v1/things-{}/{{thing}}", "GET /v1/things-{}/7"),
    "a field of several segments": (
        "GET /v1/{{thing.name=shelves-{}/*/books/*}}",
        "GET /v1/shelves-{}/1/books/2",
    ),
    "a rest": ("GET /v1/files-{}/{{path=**}}", "GET /v1/files-{}/a/b/c"),
    "a verb": ("POST /v1/things-{}/{{thing}}:cancel", "POST /v1/things-{}/7:cancel"),
    "a wildcard first": ("GET /*/owned-{}/{{thing}}", "GET /v1/owned-{}/7"),
    "the way back": ("GET /v1/*/back-{}/end", "GET /v1/things-{}/back-{}/end"),
}
MISSES = {"no such path": "GET /v1/nothing/at/all", "a wrong method": "PUT /v1/things-{}/7"}


async def _nothing(_exchange: Exchange) -> None:
    """No call is made."""


def table(number: int) -> Table:
    """As many routes of every kind as come to a number."""
    made = Table(lambda _protocol, _error: Endpoint("", _nothing))
    patterns = [pattern for pattern, _ in KINDS.values()]
    for at in range(number):
        method, _, pattern = patterns[at % len(patterns)].format(at // len(patterns)).partition(" ")
        if made.add("rest", method, pattern, Endpoint(f"route-{at}", _nothing)) is not None:
            raise AssertionError(f"{pattern} is there twice")
    return made


def spent(routes: Table, target: str, finds: int) -> float:
    """CPU seconds of as many finds."""
    find = routes.find
    started = time.process_time()
    for _ in range(finds):
        find("rest", target)
    return time.process_time() - started


def best(work: Iterable[Callable[[], float]]) -> list[float]:
    """The least that each took."""
    jobs = list(work)
    rounds = [[job() for job in jobs] for _ in range(ROUNDS)]
    return [min(times) for times in zip(*rounds, strict=True)]


def measure(finds: int) -> dict[str, tuple[float, float]]:
    """Microseconds of a find by the kind of call: with FEW routes, with MANY."""
    few, many = table(FEW), table(MANY)
    calls = {name: call for name, (_, call) in KINDS.items()} | MISSES
    measured = {}
    for name, call in calls.items():
        target = call.format(0, 0)
        if (name in MISSES) is (many.find("rest", target).error is None):
            raise AssertionError(f"{target} is not answered as it should be")
        times = best(partial(spent, routes, target, finds) for routes in (few, many))
        measured[name] = (times[0] / finds * 1e6, times[1] / finds * 1e6)
    return measured


def segments(finds: int) -> dict[str, tuple[float, float]]:
    """Nanoseconds of one segment: of a path of SHORT ones, and of LONG ones."""
    routes = table(MANY)
    paths: dict[str, Callable[[int], str]] = {
        "segments of a rest": lambda count: "GET /v1/files-0" + "/x" * count,
        "escaped slashes": lambda count: "GET /v1/files-0/" + "%2F" * count,
        "nothing but slashes": lambda count: "GET /v1/files-0" + "/" * count,
        "colons": lambda count: "POST /v1/things-0/" + ":x" * count,
    }
    measured = {}
    for name, path in paths.items():
        jobs = ((path(SHORT), finds // 100), (path(LONG), max(1, finds * SHORT // (100 * LONG))))
        times = best(partial(spent, routes, target, count) for target, count in jobs)
        measured[name] = (times[0] / jobs[0][1] / SHORT * 1e9, times[1] / jobs[1][1] / LONG * 1e9)
    return measured


def main() -> int:
    """Print the table; exit 1 where a ratio is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--finds", type=int, default=20_000)
    finds = parser.parse_args().finds
    worst = 0.0
    for head, low, high, measured in (
        ("us a find", f"{FEW} routes", f"{MANY:,}", measure(finds)),
        ("ns a segment", f"{SHORT:,}", f"{LONG:,}", segments(finds)),
    ):
        print(f"{head:32}{low:>12}{high:>12}{'ratio':>8}")
        for name, (small, large) in measured.items():
            worst = max(worst, large / small)
            print(f"{name:32}{small:12.2f}{large:12.2f}{large / small:8.2f}")
        print()
    print(f"the worst ratio is {worst:.2f} (goal: at most {GOAL})")
    return 0 if worst <= GOAL else 1


if __name__ == "__main__":
    sys.exit(main())
