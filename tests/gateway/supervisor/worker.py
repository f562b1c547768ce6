"""A worker that serves nothing: what it does is said by its arguments."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys

from gateway.channel import Channel
from gateway.worker import become


async def main(how: str) -> int:
    """Say that it is ready, and wait for the end; or do as it is told."""
    own = become()
    told = [["calls", "counter", "about", "sum", [["calls_total", [], own.number]]]]
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set if how != "stubborn" else lambda: None)

    async def answer(word: str, _said: object) -> object:
        if word == "metrics":
            return told
        if word == "readiness":
            ready = how != f"unready {own.number}"
            return {"ready": ready, "backends": {"log": {"ready": ready, **({} if ready else {"reason": "no broker"})}}}
        if word == "reload":
            refused = how == f"refusing {own.number}"
            return {"outcome": "refused" if refused else "changed", "changes": {}, "problems": [{"file": "a"}] if refused else []}
        raise ValueError(word)

    if how == "failing":
        return 3
    if how == f"failing {own.number}":
        return 0
    async with Channel(socket.socket(fileno=own.channel), answer) as channel:
        await channel.ask("ready", {"public": ["127.0.0.1", 80]})
        if how.startswith("asking"):
            print(await channel.ask(*how.split()[1:]), flush=True)
        gone = asyncio.get_running_loop().create_task(channel.gone.wait())
        stopped = asyncio.get_running_loop().create_task(stop.wait())
        await asyncio.wait((gone, stopped), return_when=asyncio.FIRST_COMPLETED)
        gone.cancel()
        stopped.cancel()
    return 0


if __name__ == "__main__":
    # Without the interpreter's own end: it would wait for nothing here.
    os._exit(asyncio.run(main(" ".join(sys.argv[1:]))))
