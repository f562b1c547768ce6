"""Who owns what: a port and a file have one owner each. A second one would only be refused when the gateway starts, or spoil what
the first one keeps.
"""

from __future__ import annotations

from pathlib import Path

from gateway.bind import split_bind
from gateway.config import Config
from gateway.remedy import did_you_mean
from gateway.spool.path import is_of
from gateway.topic.publish import PublishTo


def check_owners(config: Config) -> None:
    """No two parts of a config would have the same, and what the gateway keeps has a place."""
    _check_listeners(config)
    _check_backends(config)
    _check_state(config)
    _check_spool(config)


def _check_listeners(config: Config) -> None:
    """Each has a port of its own, and the backends that it needs."""
    taken: dict[tuple[str, int], str] = {}
    for name, listener in config.listeners.items():
        if "backends" not in config.broken:
            for field, refusal in listener.refusals(config.backends):
                config.source.wrong(("listeners", name, field), refusal)
        bind: str | None = getattr(listener, "bind", None)
        if bind is None:
            continue
        host, port = split_bind(bind)
        for (other, number), first in taken.items():
            if port == number != 0 and _overlap(host, other):
                where = ("listeners", name, "bind")
                config.source.wrong(
                    where, f"{bind} is taken by listener {first} {config.source.seen_from(where, ('listeners', first))}"
                )
        taken[host, port] = name


def _check_backends(config: Config) -> None:
    """Each has a storage of its own."""
    owners: dict[str, str] = {}
    for name, backend in config.backends.items():
        owned = backend.owns()
        if owned is None:
            continue
        if owned in owners:
            first = owners[owned]
            line = config.source.seen_from(("backends", name), ("backends", first))
            text = f"has the same storage as {first} {line}, which can have one owner only: let routes name {first}"
            config.source.wrong(("backends", name), text)
        owners.setdefault(owned, name)


def _check_state(config: Config) -> None:
    """Where the gateway's state is kept: in topics, or in a file that nobody else has."""
    said, source = config.file.state, config.source
    name = said.backend
    if name is None:
        for other, backend in config.backends.items():
            if backend.owns() == str(Path(said.path).resolve()):
                source.wrong(("state", "path"), f"is the file of backend {other}: the gateway's state has one of its own")
    elif name not in config.file.backends:
        if "backends" not in config.broken:
            source.wrong(("state", "backend"), f"there is no backend {name!r}{did_you_mean(name, config.file.backends)}")
    elif name in config.backends and not any(issubclass(verb, PublishTo) for verb in config.backends[name].verbs.values()):
        kind = config.backends[name].kind
        source.wrong(("state", "backend"), f"a {kind} backend has no topics to keep things in")


def _check_spool(config: Config) -> None:
    """The spool has files of its own, one for each process."""
    taken = {f"backend {name}": backend.owns() for name, backend in config.backends.items()}
    if config.file.state.backend is None:
        taken["the gateway's state"] = str(Path(config.file.state.path).resolve())
    for owner, file in taken.items():
        if file is not None and is_of(config.file.spool.path, file):
            config.source.wrong(("spool", "path"), f"would take the file of {owner} for its own")


def _overlap(host: str, other: str) -> bool:
    """Whether a port of one host is one of the other: a wildcard has every address of its family."""
    for one, two in ((host, other), (other, host)):
        if one in {two, ""} or (one == "0.0.0.0" and ":" not in two) or (one == "::" and ":" in two):  # noqa: S104  compared
            return True
    return {host, other} == {"localhost", "127.0.0.1"}
