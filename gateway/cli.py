"""The command `polygate`: run a config, check it, explain a call, list the routes, write a starter file.

Exit codes: 0 all is well; 1 the config is wrong, or a check failed; 2 the command line is wrong; 3 the gateway could not start.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import sys
from collections.abc import Callable, Coroutine, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

from gateway import __version__, attempt, explain
from gateway.document import schema
from gateway.errors import GatewayError
from gateway.plan import Plan, plan
from gateway.policy.observe import flush
from gateway.server import Gateway, StartError, rows, serve
from gateway.source import ConfigError

T = TypeVar("T")
OK, WRONG, USAGE, NOT_STARTED = 0, 1, 2, 3
DEFAULT = Path("config/gateway.yaml")

_EPILOG = """\
exit codes: 0 all is well; 1 the config is wrong, or a check failed; 2 the command line is wrong; 3 it could not start

first steps:
  polygate init gateway.yaml               write a commented starter file
  polygate check gateway.yaml              tell everything that is wrong with it
  polygate run gateway.yaml                serve it
  polygate explain "POST /orders/ada"      which route takes a call, and what the call meets on its way
"""


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
    """Tell every problem of a config; with --connect ask its backends too."""
    planned = plan(options.config)
    reasons = _asyncio(_unready(planned)) if options.connect else {}
    if options.json:
        _json({"ok": not reasons, "routes": len(planned.routes), "problems": [], "backends": reasons})
    for name, reason in reasons.items():
        _complain(f"{options.config} backends.{name}: {reason}")
    if reasons:
        return WRONG
    if not options.json:
        asked = f", {len(planned.config.backends)} backends answered" if options.connect else ""
        _say(f"{options.config}: {len(planned.routes)} routes, {len(planned.config.listeners)} listeners: all fits{asked}")
    return OK


async def _unready(planned: Plan) -> dict[str, str]:
    reasons: dict[str, str] = {}
    for name, config in planned.config.backends.items():
        try:
            async with config.build() as backend, asyncio.timeout(5):
                await backend.check()
        except (GatewayError, OSError, ValueError, RuntimeError) as error:
            reasons[name] = str(error)
        except TimeoutError:
            reasons[name] = "no answer within 5 s"
    return reasons


def explain_call(options: argparse.Namespace) -> int:
    """Show which route takes a call, why not the others, and what the call meets on its way."""
    told = explain.explain(plan(options.config), options.call, options.body)
    if options.json:
        _json(told)
    else:
        _say(explain.text(told))
    return OK if told["route"] is not None else WRONG


def routes(options: argparse.Namespace) -> int:
    """List the routes."""
    table = rows(plan(options.config))
    if options.json:
        _json({"routes": table})
        return OK
    lines = [("ROUTE", "CALLS", "TARGET", "LINE")]
    for row in table:
        when = row["when"]
        assert isinstance(when, dict)  # noqa: S101  rows() makes it
        calls = [f"{protocol} {call}" for protocol, call in when.items()]
        target = f"{row['backend']}: {row['verb']} {row['target']}"
        lines.append((str(row["route"]), calls[0], target, str(row["line"])))
        lines.extend(("", call, "", "") for call in calls[1:])
    widths = [max(len(line[column]) for line in lines) for column in range(4)]
    _say("\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines))
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


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(
        prog="polygate",
        description="A transport gateway: REST, gRPC and WebSocket in; topics and synchronous backends out; one route table.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = top.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def command(name: str, action: Callable[[argparse.Namespace], int], *, config: bool = True) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=action.__doc__, description=action.__doc__)
        sub.set_defaults(action=action)
        if config:
            told = f"the config file ({DEFAULT} unless told)"
            if name == "explain":
                sub.add_argument("--config", "-c", type=Path, default=DEFAULT, help=told)
            else:
                sub.add_argument("config", nargs="?", type=Path, default=DEFAULT, help=told)
        return sub

    running = command("run", run)
    running.add_argument("--log-level", choices=["debug", "info", "warning", "error"], default="info", help="info unless told")
    checking = command("check", check)
    checking.add_argument("--connect", action="store_true", help="ask every backend whether it is there, too")
    explaining = command("explain", explain_call)
    explaining.add_argument(
        "call", help='"POST /orders/ada", "shop.v1.Orders/Place" (gRPC), "/feed" (WebSocket) or "topic quotes.asked"'
    )
    explaining.add_argument("--body", "-b", help="a JSON body: shows the record or request that it becomes")
    listing = command("routes", routes)
    command("schema", show_schema, config=False)
    starting = command("init", init, config=False)
    starting.add_argument("file", nargs="?", type=Path, default=Path("gateway.yaml"), help="gateway.yaml unless told")
    telling = command("version", version, config=False)
    for sub in (checking, explaining, listing, telling):
        sub.add_argument("--json", action="store_true", help="for programs")
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """The entry point; returns the exit code."""
    options = parser().parse_args(arguments)
    try:
        return int(options.action(options))
    except ConfigError as error:
        if getattr(options, "json", False):
            _json({"ok": False, "problems": [_row(problem) for problem in error.problems]})
        for problem in error.problems:
            _complain(str(problem))
        count = len(error.problems)
        _complain(f"polygate: {count} problem{'s' if count > 1 else ''}; nothing was started")
        return WRONG
    except BrokenPipeError:
        # Whoever read our output (a pager, `head`) has enough.
        sys.stderr.close()
        return OK


def _row(problem: Any) -> dict[str, object]:
    return {"file": problem.file, "line": problem.line, "path": problem.path, "text": problem.text}
