"""The command `polygate`: its command line. What each command does is in `gateway.command`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from gateway.command import OK, WRONG, complain, count, say_json
from gateway.command.check import check
from gateway.command.describe import show_asyncapi, show_openapi, show_schema
from gateway.command.explain import explain_call
from gateway.command.init import init
from gateway.command.routes import routes
from gateway.command.run import run
from gateway.command.spool import add as add_spool
from gateway.command.spool import spool
from gateway.command.version import version
from gateway.file import MAX_WORKERS
from gateway.manual import EPILOG, EXAMPLES
from gateway.source import ConfigError

DEFAULT = Path("config/gateway.yaml")


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


def _workers(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= MAX_WORKERS:
        raise argparse.ArgumentTypeError(f"must be a number from 1 to {MAX_WORKERS}")
    return int(text)


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
    running.add_argument("--workers", type=_workers, metavar="N", help="how many processes serve it, whatever the file says")
    running.add_argument(
        "--check-first", action="store_true", help="start only if every backend is ready, as check --connect tells it"
    )
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
    add_spool(_command(commands, "spool", spool))
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
            say_json({"ok": False, "problems": [_row(problem) for problem in error.problems]})
        for problem in error.problems:
            complain(str(problem))
        complain(f"polygate: {count(error.problems, 'problem')}; nothing was started")
        return WRONG
    except BrokenPipeError:
        # Whoever read our output (a pager, `head`) has enough.
        sys.stderr.close()
        return OK


def _row(problem: Any) -> dict[str, object]:
    return {"file": problem.file, "line": problem.line, "path": problem.path, "text": problem.text}
