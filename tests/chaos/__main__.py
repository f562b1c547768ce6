"""`python -m tests.chaos`: run faults with many seeds and print what they came to. Exit code 1 where a promise was broken."""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

from tests.chaos.fault import FAULTS
from tests.chaos.ledger import Told, Verdict
from tests.chaos.pool import running
from tests.chaos.run import broken

COLUMNS = (
    *("acknowledged", "accepted", "stored", "failed", "refused", "unknown"),
    *("dropped", "lost", "phantom", "duplicate", "twice", "reordered"),
)
MARKS = ("<!-- chaos: make chaos writes this -->\n", "<!-- /chaos -->\n")
JOBS = 4
"""Most of a run is waiting."""


def main(arguments: Sequence[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("faults", nargs="*", metavar="FAULT", help=f"which (all unless told): {', '.join(FAULTS)}")
    parser.add_argument("--seeds", type=int, default=20, metavar="N", help="how many runs of each (20)")
    parser.add_argument("--seed", type=int, metavar="S", help="one run, by its seed")
    parser.add_argument("--backend", metavar="KIND", help="on this one only: kafka, kafka-3, proxied, local")
    jobs = f"so many runs at a time, each with brokers of its own ({JOBS})"
    parser.add_argument("--jobs", type=int, default=JOBS, metavar="N", help=jobs)
    parser.add_argument("--write", type=Path, metavar="FILE", help="put the table into this page, between its marks")
    options = parser.parse_args(arguments)
    unknown = [name for name in options.faults if name not in FAULTS]
    if unknown:
        parser.error(f"no such fault: {', '.join(unknown)}")
    seeds = [options.seed] if options.seed is not None else range(1, options.seeds + 1)
    kinds = [(name, kind) for name in options.faults or FAULTS for kind in FAULTS[name].backends]
    runs = [(name, kind, seed) for name, kind in kinds if options.backend in {None, kind} for seed in seeds]
    started = time.monotonic()
    totals: dict[tuple[str, str], list[Verdict]] = defaultdict(list)
    with running(runs, options.jobs) as verdicts:
        for number, ((name, kind, seed), verdict) in enumerate(verdicts.items(), 1):
            result = verdict.result()
            totals[name, kind].append(result)
            _tell(f"{number}/{len(runs)}", name, kind, seed, result)
    rows = [(*key, totals[key]) for key in kinds if key in totals]
    text = table(rows)
    print(f"{text}\n{len(runs)} runs in {(time.monotonic() - started) / 60:.0f} minutes")
    if options.write is not None:
        _write(options.write, text)
    return 1 if any(broken(result) for *_, some in rows for result in some) else 0


def _tell(at: str, name: str, kind: str, seed: int, result: Verdict) -> None:
    said = ", ".join(f"{column} {number}" for column, number in numbers(result).items() if number)
    print(f"{at} {name} {kind} seed {seed}: {said}", file=sys.stderr, flush=True)
    if modes := Counter(one.split("-")[1] for one in result.duplicate):
        print(f"  duplicates by mode: {dict(modes)}", file=sys.stderr, flush=True)
    if texts := broken(result):
        again = f"python -m tests.chaos {name} --backend {kind} --seed {seed}"
        print("\n".join(f"  BROKEN {text}" for text in texts), f"\n  again: {again}", file=sys.stderr, flush=True)


def numbers(result: Verdict) -> dict[str, int]:
    """The columns of the table."""
    lists = {name: len(getattr(result, name)) for name in ("lost", "phantom", "duplicate", "twice", "reordered")}
    found = {"attempts": result.attempts, **{one.value: result.told[one] for one in Told}, "dropped": result.dropped, **lists}
    return {name: found[name] for name in ("attempts", *COLUMNS)}


def table(rows: Sequence[tuple[str, str, Sequence[Verdict]]]) -> str:
    """The rows as Markdown."""
    head = ("fault", "backend", "runs", "attempts", *COLUMNS)
    lines = [f"| {' | '.join(head)} |", f"| {' | '.join('---' for _ in head)} |"]
    for name, kind, verdicts in rows:
        told = numbers(sum(verdicts, Verdict())).values()
        lines.append(f"| {name} | {kind} | {len(verdicts)} | {' | '.join(f'{number:,}' for number in told)} |")
    return "\n".join(lines)


def _write(page: Path, text: str) -> None:
    before, _, rest = page.read_text().partition(MARKS[0])
    _, _, after = rest.partition(MARKS[1])
    page.write_text(f"{before}{MARKS[0]}{text}\n{MARKS[1]}{after}")


if __name__ == "__main__":
    sys.exit(main())
