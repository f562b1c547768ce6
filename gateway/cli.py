"""The command `polygate`: run a config, check it, explain a call, list the routes, write a starter file.

Exit codes: 0 all is well; 1 the config is wrong, a check failed, or an explained call would be refused; 2 the command line is
wrong; 3 the gateway could not start.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import sys
from collections.abc import Callable, Coroutine, Sequence, Sized
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

from gateway import __version__, attempt, explain
from gateway.description import NOT_YET, servers, sockets
from gateway.description.asyncapi import asyncapi
from gateway.description.openapi import openapi
from gateway.document import schema
from gateway.manual import EPILOG, EXAMPLES
from gateway.message import Headers
from gateway.plan import Plan, plan
from gateway.policy.observe import flush
from gateway.probe import AskingError, drift, unready
from gateway.server import Gateway, StartError, rows, serve
from gateway.source import ConfigError

T = TypeVar("T")
OK, WRONG, USAGE, NOT_STARTED = 0, 1, 2, 3
DEFAULT = Path("config/gateway.yaml")


def _say(text: str) -> None:
    sys.stdout.write(text if text.endswith("\n") else text + "\n")
    sys.stdout.flush()


def _complain(text: str) -> None:
    sys.stderr.write(text + "\n")


def _json(value: object) -> None:
    _say(json.dumps(value, indent=2, ensure_ascii=False))


def _asyncio(work: Coroutine[Any, Any, T]) -> T:
    """Run on uvloop where it is installed: about twice the rate over HTTP."""
    try:
        import uvloop
    except ModuleNotFoundError:
        return asyncio.run(work)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(work)


def run(options: argparse.Namespace) -> int:
    """Serve until SIGTERM or SIGINT."""
    logging.basicConfig(level=options.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    planned = plan(options.config)

    def started(gateway: Gateway) -> None:
        _say(attempt.banner(planned, gateway.addresses))

    try:
        _asyncio(serve(planned, started))
    except StartError as error:
        _complain(f"polygate: {error}")
        return NOT_STARTED
    except (asyncio.CancelledError, KeyboardInterrupt):
        _complain("polygate: stopped by a second signal, without waiting")
    finally:
        flush()
    return OK


def check(options: argparse.Namespace) -> int:
    """Tell every problem of a config; with --connect ask its backends too, with --running a gateway that has loaded it."""
    planned = plan(options.config)
    reasons = _asyncio(unready(planned.config.backends)) if options.connect else {}
    drifted = _drifted(options.running, planned) if options.running is not None else []
    ok = not reasons and not drifted
    if options.json:
        backends = dict.fromkeys(planned.config.backends, "ready") | reasons if options.connect else {}
        _json({"ok": ok, "routes": len(planned.routes), "problems": [], "backends": backends, "drift": drifted})
    for name, reason in reasons.items():
        _complain(f"{_named(options.config)} backends.{name}: {reason}")
    for text in drifted:
        _complain(f"{options.running} {text}")
    if not ok:
        return WRONG
    if not options.json:
        asked = f", {_count(planned.config.backends, 'backend')} answered" if options.connect else ""
        counts = f"{_count(planned.routes, 'route')}, {_count(planned.config.listeners, 'listener')}"
        left = sum(len(route.left_out) for route in planned.routes)
        left_out = f"; {_count(range(left), 'call')} of services left out (`polygate routes` says why)" if left else ""
        _say(f"{_named(options.config)}: {counts}: all fits{asked}{left_out}")
    return OK


def _drifted(url: str, planned: Plan) -> list[str]:
    """What a running gateway has otherwise, or why it does not say."""
    try:
        return list(drift(url, planned.config.contracts.digests))
    except AskingError as error:
        return [str(error)]


def _named(paths: Sequence[Path]) -> str:
    return ", ".join(map(str, paths))


def _count(things: Sized, noun: str) -> str:
    return f"{len(things)} {noun}{'' if len(things) == 1 else 's'}"


def explain_call(options: argparse.Namespace) -> int:
    """Show which route takes a call, why not the others, and what the call meets on its way."""
    try:
        explain.protocol_of(options.call)
    except ValueError as error:
        _complain(f"polygate explain: {error}")
        return USAGE
    try:
        body, reply = _content(options.body), _content(options.reply)
        headers = Headers(_header(text) for text in options.header or ())
    except ValueError as error:
        _complain(f"polygate explain: {error}")
        return USAGE
    told = explain.explain(plan(options.config), options.call, body, headers=headers, reply=reply)
    if options.json:
        _json(told)
    else:
        _say(explain.text(told))
    return OK if told["route"] is not None and not told.keys() & {"refused", "failed"} else WRONG


def _content(text: str | None) -> str | None:
    """What is said, or what is in the file that is named after @. Raises ValueError."""
    if text is None or not text.startswith("@"):
        return text
    try:
        return Path(text[1:]).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = (error.strerror or "").lower() if isinstance(error, OSError) else "it is not UTF-8"
        raise ValueError(f"{text[1:]} cannot be read: {why}") from error


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon or not name.strip():
        raise ValueError(f"{text!r} is no header: write NAME: VALUE")
    return name.strip().lower(), value.strip()


def routes(options: argparse.Namespace) -> int:
    """List the routes."""
    table = rows(plan(options.config))
    if options.json:
        _json({"routes": table})
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
    widths = [max(len(line[column]) for line in lines) for column in range(4)]
    _say("\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines))
    for row in table:
        for call in row["left_out"]:
            _say(f"left out: {row['route']} {call['protocol']} {call['call']} ({call['origin']}): {call['why']}")
    return OK


def show_openapi(options: argparse.Namespace) -> int:
    """Print what the REST listeners serve, as OpenAPI 3.1."""
    planned = plan(options.config)
    _json(openapi(planned, options.server or servers(planned, NOT_YET)))
    return OK


def show_asyncapi(options: argparse.Namespace) -> int:
    """Print the WebSockets and topics, as AsyncAPI 3.0."""
    planned = plan(options.config)
    _json(asyncapi(planned, sockets(planned, NOT_YET)))
    return OK


def show_schema(options: argparse.Namespace) -> int:
    """Print the JSON schema of config files, for editors."""
    del options
    _json(schema())
    return OK


def init(options: argparse.Namespace) -> int:
    """Write a commented starter file."""
    starter = resources.files("gateway").joinpath("starter.yaml").read_text(encoding="utf-8")
    target: Path = options.file
    try:
        with target.open("x", encoding="utf-8") as file:
            file.write(starter)
    except FileExistsError:
        _complain(f"polygate: {target} is there already; name another file")
        return WRONG
    except OSError as error:
        _complain(f"polygate: {target}: {error.strerror}")
        return WRONG
    _say(f"wrote {target}; next: polygate run {target}")
    return OK


def version(options: argparse.Namespace) -> int:
    """Print the version."""
    if options.json:
        _json({"version": __version__})
    else:
        _say(f"polygate {__version__}")
    return OK


def _command(
    commands: argparse._SubParsersAction[argparse.ArgumentParser], name: str, action: Callable[[argparse.Namespace], int]
) -> argparse.ArgumentParser:
    sub = commands.add_parser(
        name,
        help=action.__doc__,
        description=action.__doc__,
        epilog=EXAMPLES[name],
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    sub.set_defaults(action=action)
    told = f"a config file, or a folder of them; several are one config ({DEFAULT} unless told)"
    if name in {"run", "check", "routes", "explain", "openapi", "asyncapi"}:
        sub.add_argument("--config", "-c", type=Path, metavar="FILE", action="append", help=told)
    if name in {"run", "check", "routes", "openapi", "asyncapi"}:
        sub.add_argument("file", nargs="*", type=Path, help="the same, without -c")
    if name in {"check", "explain", "routes", "version"}:
        sub.add_argument("--json", action="store_true", help="for programs")
    return sub


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(
        prog="polygate",
        description="A transport gateway: REST, gRPC and WebSocket in; topics and synchronous backends out; one route table.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = top.add_subparsers(title="commands", metavar="COMMAND", required=True)
    running = _command(commands, "run", run)
    running.add_argument("--log-level", choices=["debug", "info", "warning", "error"], default="info", help="info unless told")
    checking = _command(commands, "check", check)
    checking.add_argument("--connect", action="store_true", help="ask every backend whether it is there, too")
    checking.add_argument(
        "--running", metavar="URL", help="ask a gateway's admin listener whether it has the contracts that load now, too"
    )
    explaining = _command(commands, "explain", explain_call)
    explaining.add_argument("call", help="the call, as its protocol writes it (see the examples)")
    explaining.add_argument(
        "--body", "-b", help="a JSON message, or @FILE: shows the record or request that it becomes, or why it would not"
    )
    explaining.add_argument(
        "--reply", "-r", metavar="BODY", help="what the target would answer, in JSON, or @FILE: shows what the caller gets"
    )
    explaining.add_argument("--header", "-H", action="append", metavar="NAME: VALUE", help="a header of the call")
    _command(commands, "routes", routes)
    describing = _command(commands, "openapi", show_openapi)
    describing.add_argument(
        "--server", action="append", metavar="URL", help="where callers reach it (where it listens unless told)"
    )
    _command(commands, "asyncapi", show_asyncapi)
    _command(commands, "schema", show_schema)
    starting = _command(commands, "init", init)
    starting.add_argument("file", nargs="?", type=Path, default=Path("gateway.yaml"), help="gateway.yaml unless told")
    _command(commands, "version", version)
    return top


def _parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line; where a command takes a config, its files are in `config`. Exits 2 where it is wrong."""
    top = parser()
    options = top.parse_args(arguments)
    if "config" in options:
        options.config = [*(options.config or ()), *getattr(options, "file", ())] or [DEFAULT]
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """The entry point; returns the exit code."""
    options = _parsed(arguments)
    try:
        return int(options.action(options))
    except ConfigError as error:
        if getattr(options, "json", False):
            _json({"ok": False, "problems": [_row(problem) for problem in error.problems]})
        for problem in error.problems:
            _complain(str(problem))
        _complain(f"polygate: {_count(error.problems, 'problem')}; nothing was started")
        return WRONG
    except BrokenPipeError:
        # Whoever read our output (a pager, `head`) has enough.
        sys.stderr.close()
        return OK


def _row(problem: Any) -> dict[str, object]:
    return {"file": problem.file, "line": problem.line, "path": problem.path, "text": problem.text}
