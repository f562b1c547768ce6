"""`polygate run`."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os

from gateway import attempt
from gateway.command import NOT_STARTED, OK, WRONG, complain, in_loop, named, say
from gateway.command.work import binds_of, look_after, work
from gateway.inherited import Inherited, assigned
from gateway.plan import Plan, plan
from gateway.policy.access import flush
from gateway.probe import unready
from gateway.process import serve
from gateway.server import Gateway, StartError
from gateway.systemd import handed_over, notify
from gateway.worker import become


def run(options: argparse.Namespace) -> int:
    """Serve until SIGTERM or SIGINT."""
    own = become()
    number = f"[{own.number}]" if own.number else ""
    logging.basicConfig(level=options.log_level.upper(), format=f"%(asctime)s %(levelname)s %(name)s{number}: %(message)s")
    planned = plan(options.config, workers=options.workers)
    try:
        inherited = _inherited(planned)
    except ValueError as error:
        complain(f"polygate: {error}")
        return NOT_STARTED
    try:
        if own.number:
            work(planned, own)
            return OK
        if options.check_first and (reasons := in_loop(unready(planned.config.backends))):
            for name, reason in reasons.items():
                complain(f"{named(options.config)} backends.{name}: {reason}")
            complain("polygate: nothing was started")
            return WRONG
        if planned.config.file.workers > 1:
            return look_after(planned, inherited, options.config, options.log_level)
        _serve(planned, inherited)
    except StartError as error:
        complain(f"polygate: {error}")
        return NOT_STARTED
    except (asyncio.CancelledError, KeyboardInterrupt):
        complain("polygate: stopped by a second signal, without waiting")
    finally:
        flush()
    return OK


def _inherited(planned: Plan) -> Inherited:
    """The sockets that systemd has handed over. Raises ValueError."""
    return assigned(handed_over(os.environ), binds_of(planned))


def _serve(planned: Plan, inherited: Inherited) -> None:
    def started(gateway: Gateway) -> None:
        say(attempt.banner(planned, gateway.addresses))
        notify("READY=1")

    def stopping() -> None:
        notify("STOPPING=1")
        # Who has opened them holds them on; without that, nobody is to wait for us.
        inherited.close()

    with inherited:
        in_loop(serve(planned, started, listen=inherited.listen, stopping=stopping))
