"""`polygate spool`: what waits for its broker, and what was set aside. Every one of it works while the gateway runs."""

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

from gateway.command import OK, USAGE, WRONG, complain, count, say, say_columns, say_json
from gateway.config import load
from gateway.embedded.fault import StoreError
from gateway.errors import GatewayError
from gateway.message import JSON
from gateway.spool.archive import Entry, Heap, drop, entries, heaps, replay
from gateway.spool.path import existing
from gateway.spool.record import ASIDE, WAITING
from gateway.topic.event import plain
from gateway.topic.log import rfc3339

SHOWN = 100
"""How many of the records that were set aside `list` shows."""


def listed(options: argparse.Namespace) -> int:
    """Show how much waits for each backend, and what was set aside."""
    path = _path(options)
    held = [heap for heap in heaps(path) if options.backend in {None, heap.backend}]
    aside = list(islice(entries(path, ASIDE, options.backend), SHOWN))
    if options.json:
        say_json({"held": [_heap(heap) for heap in held], "aside": [_told(entry) for entry in aside]})
        return OK
    if not held:
        say(f"{path}: nothing waits, nothing was set aside")
        return OK
    lines = [("BACKEND", "STATE", "RECORDS", "BYTES", "OLDEST", "FILE")]
    say_columns([*lines, *(tuple(map(str, _heap(heap).values())) for heap in held)])
    for entry in aside:
        record = entry.record
        say(f"aside: {record.id} {entry.backend} {record.topic} of {rfc3339(record.timestamp)}: {record.why}")
    if more := sum(heap.records for heap in held if heap.state == ASIDE) - len(aside):
        say(f"aside: {more} more, all of which `polygate spool export --state {ASIDE}` prints")
    return OK


def exported(options: argparse.Namespace) -> int:
    """Print the records, one JSON object a line."""
    for entry in entries(_path(options), options.state, options.backend):
        say(json.dumps(_told(entry), ensure_ascii=False, separators=(",", ":")))
    return OK


def replayed(options: argparse.Namespace) -> int:
    """Let records that were set aside wait again: a gateway that runs takes them over within seconds."""
    path = _path(options)
    return _done(options, path, "replayed", lambda chosen: asyncio.run(replay(path, chosen)))


def dropped(options: argparse.Namespace) -> int:
    """Let records go that were set aside."""
    return _done(options, _path(options), "dropped", drop)


def _done(options: argparse.Namespace, path: str, what: str, act: Callable[[Iterator[Entry]], int]) -> int:
    wanted = set(options.ids)
    number = act(entry for entry in entries(path, ASIDE, options.backend) if options.all or entry.record.id in wanted)
    say(f"{count(range(number), 'record')} {what}")
    if number < len(wanted):
        complain(f"polygate spool: {len(wanted) - number} of these ids are not among what was set aside")
        return WRONG
    return OK


def spool(options: argparse.Namespace) -> int:
    """See, export, replay or drop the records that were stored for a broker."""
    if options.act in {replayed, dropped} and bool(options.ids) == options.all:
        complain("polygate spool: name the ids of records, or say --all")
        return USAGE
    try:
        return int(options.act(options))
    except (StoreError, GatewayError) as error:
        complain(f"polygate spool: {error}")
        return WRONG


def add(command: argparse.ArgumentParser) -> None:
    """What can be said after `polygate spool`."""
    acts = command.add_subparsers(title="what to do", metavar="WHAT", required=True)
    for name, act in (("list", listed), ("export", exported), ("replay", replayed), ("drop", dropped)):
        one = acts.add_parser(name, help=act.__doc__, description=act.__doc__)
        one.set_defaults(act=act)
        one.add_argument(
            "--config", "-c", type=Path, metavar="FILE", action="append", help="the config that says where the spool is"
        )
        one.add_argument("--path", metavar="FILE", help="the file of the spool, in place of the config's")
        one.add_argument("--backend", metavar="NAME", help="only of this backend")
        if act is listed:
            one.add_argument("--json", action="store_true", help="for programs")
        if act is exported:
            one.add_argument("--state", choices=[WAITING, ASIDE], help="only these; both unless told")
        if act in {replayed, dropped}:
            one.add_argument("ids", nargs="*", metavar="ID", help="records that were set aside, as `list` names them")
            one.add_argument("--all", action="store_true", help="all that were set aside")


def _path(options: argparse.Namespace) -> str:
    said: str | None = options.path
    path = said if said is not None else load(options.config).file.spool.path
    if not existing(path):
        # To who looks in the wrong folder that nothing waits would be a lie.
        raise StoreError(f"there is no spool at {Path(path).absolute()}")
    return path


def _heap(heap: Heap) -> dict[str, Any]:
    return {
        "backend": heap.backend,
        "state": heap.state,
        "records": heap.records,
        "bytes": heap.bytes,
        "oldest": rfc3339(heap.oldest or 0),
        "file": heap.file,
    }


def _told(entry: Entry) -> dict[str, Any]:
    record = entry.record
    shown = plain(replace(record.message, content_type=JSON))
    del shown["cursor"], shown["timestamp"]
    partition = {} if record.partition is None else {"partition": record.partition}
    why = {"why": record.why} if record.why else {}
    stored = rfc3339(record.timestamp)
    told = {"id": record.id, "state": entry.state, "backend": entry.backend, "topic": record.topic, **partition, "stored": stored}
    return {**told, **why, **shown}
