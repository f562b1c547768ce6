"""`python -m tests.chaos`: run faults with many seeds and print what they came to. Exit code 1 where a promise was broken."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Iterator, Sequence

from tests.chaos.fault import FAULTS, Fault
from tests.chaos.ledger import Told, Verdict
from tests.chaos.run import Brokers, broken, once

COLUMNS = (
    "acknowledged",
    "accepted",
    "failed",
    "refused",
    "unknown",
    "stored",
    "dropped",
    "lost",
    "phantom",
    "duplicate",
    "reordered",
)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("faults", nargs="*", metavar="FAULT", help=f"which (all unless told): {', '.join(FAULTS)}")
    parser.add_argument("--seeds", type=int, default=20, metavar="N", help="how many runs of each (20)")
    parser.add_argument("--seed", type=int, metavar="S", help="one run, by its seed")
    parser.add_argument("--backend", metavar="KIND", help="on this one only: kafka, kafka-3, proxied, local")
    options = parser.parse_args(arguments)
    unknown = [name for name in options.faults if name not in FAULTS]
    if unknown:
        parser.error(f"no such fault: {', '.join(unknown)}")
    faults = [FAULTS[name] for name in options.faults or FAULTS]
    seeds = [options.seed] if options.seed is not None else range(1, options.seeds + 1)
    with Brokers() as brokers:
        rows = list(_rows(faults, options.backend, seeds, brokers))
    print(table(rows))
    return 1 if any(broken(result) for _, _, _, result in rows) else 0


Row = tuple[str, str, int, Verdict]


def _rows(faults: Sequence[Fault], backend: str | None, seeds: Sequence[int], brokers: Brokers) -> Iterator[Row]:
    for fault in faults:
        for kind in fault.backends:
            if backend not in {None, kind}:
                continue
            total = Verdict()
            for seed in seeds:
                result = _run(fault, kind, seed, brokers)
                total += result
                said = "  ".join(f"{name} {number}" for name, number in numbers(result).items())
                print(f"{fault.name} {kind} seed {seed}: {said}", file=sys.stderr, flush=True)
                for text in broken(result):
                    print(
                        f"  BROKEN {text}\n  again: python -m tests.chaos {fault.name} --backend {kind} --seed {seed}",
                        file=sys.stderr,
                    )
            yield fault.name, kind, len(seeds), total


def _run(fault: Fault, kind: str, seed: int, brokers: Brokers) -> Verdict:
    try:
        return asyncio.run(once(fault, kind, seed, brokers))
    except (AssertionError, TimeoutError, ExceptionGroup, OSError) as error:
        return Verdict(strange=[f"the run ended with {error!r}"])


def numbers(result: Verdict) -> dict[str, int]:
    """The columns of the table."""
    lists = {name: len(getattr(result, name)) for name in ("lost", "phantom", "duplicate", "reordered")}
    found = {"attempts": result.attempts, **{one.value: result.told[one] for one in Told}, "dropped": result.dropped, **lists}
    return {name: found[name] for name in ("attempts", *COLUMNS)}


def table(rows: Sequence[Row]) -> str:
    """The rows as Markdown."""
    head = ("fault", "backend", "runs", "attempts", *COLUMNS)
    lines = [f"| {' | '.join(head)} |", f"| {' | '.join('---' for _ in head)} |"]
    for name, kind, runs, result in rows:
        lines.append(f"| {name} | {kind} | {runs} | {' | '.join(f'{number:,}' for number in numbers(result).values())} |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
