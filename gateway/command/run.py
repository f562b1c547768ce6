"""`polygate run`."""

from __future__ import annotations

import argparse
import asyncio
import logging

from gateway import attempt
from gateway.command import NOT_STARTED, OK, complain, in_loop, say
from gateway.plan import plan
from gateway.policy.observe import flush
from gateway.process import serve
from gateway.server import Gateway, StartError


def run(options: argparse.Namespace) -> int:
    """Serve until SIGTERM or SIGINT."""
    logging.basicConfig(level=options.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    planned = plan(options.config)

    def started(gateway: Gateway) -> None:
        say(attempt.banner(planned, gateway.addresses))

    try:
        in_loop(serve(planned, started))
    except StartError as error:
        complain(f"polygate: {error}")
        return NOT_STARTED
    except (asyncio.CancelledError, KeyboardInterrupt):
        complain("polygate: stopped by a second signal, without waiting")
    finally:
        flush()
    return OK
