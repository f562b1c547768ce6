"""A real Chromium, headless, spoken to over its DevTools protocol: what a page shows, what it asks for, what it complains of."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from tempfile import TemporaryDirectory

from websockets.asyncio.client import ClientConnection, connect

NAMES = ("chromium", "chromium-browser", "google-chrome")
HOW_TO_GET_ONE = "Chromium is not installed: apt-get install chromium, or name one with --browser=PATH"
WITHIN_S = 60


class NoBrowserError(Exception):
    """There is none to be had, and how to get one."""


def browser(where: str) -> str:
    """The path of the browser that `--browser` names. Raises NoBrowserError."""
    names = NAMES if where in {"auto", "must"} else (where,)
    for name in names:
        if (path := shutil.which(name)) is not None:
            return path
    raise NoBrowserError(HOW_TO_GET_ONE)


@dataclass
class Page:
    """One tab."""

    socket: ClientConnection
    session: str
    asked: list[str] = field(default_factory=list)
    """Every URL that it has asked for, refused ones included."""
    complaints: list[str] = field(default_factory=list)
    """Uncaught exceptions, and what the browser itself logs as errors (a blocked resource, a failed one)."""
    _answers: dict[int, asyncio.Future[dict]] = field(default_factory=dict)
    _numbers: itertools.count = field(default_factory=lambda: itertools.count(1))

    async def call(self, method: str, **params: object) -> dict:
        """One command of the protocol, and its result."""
        number = next(self._numbers)
        answer = self._answers[number] = asyncio.get_running_loop().create_future()
        told = {"id": number, "method": method, "params": params}
        await self.socket.send(json.dumps(told | ({"sessionId": self.session} if self.session else {})))
        async with asyncio.timeout(WITHIN_S):
            return await answer

    async def open(self, url: str) -> None:
        """Go to a URL; returns when the document is loaded."""
        for domain in ("Page", "Network", "Runtime", "Log"):
            await self.call(f"{domain}.enable")
        told = await self.call("Page.navigate", url=url)
        assert "errorText" not in told, told
        await self.until("document.readyState === 'complete'")

    async def run(self, script: str) -> object:
        """The value of an expression (of a promise, once it is kept)."""
        told = await self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in told, told["exceptionDetails"].get("exception", {}).get("description")
        return told["result"].get("value")

    async def until(self, script: str) -> object:
        """The value of an expression, once it is truthy: looked at again with each frame that the page draws."""
        again = f"new Promise(r => {{ const look = () => {{ const v = ({script}); v ? r(v) : setTimeout(look, 20) }}; look() }})"
        return await self.run(again)

    async def listen(self) -> None:
        """Read what the browser says, until it is gone."""
        async for text in self.socket:
            told = json.loads(text)
            if "id" in told:
                answer = self._answers.pop(told["id"])
                if "error" in told:
                    answer.set_exception(RuntimeError(told["error"]["message"]))
                else:
                    answer.set_result(told["result"])
            else:
                self._note(told["method"], told["params"])

    def _note(self, method: str, params: dict) -> None:
        if method == "Network.requestWillBeSent":
            self.asked.append(params["request"]["url"])
        elif method == "Network.webSocketCreated":
            self.asked.append(params["url"])
        elif method == "Runtime.exceptionThrown":
            self.complaints.append(params["exceptionDetails"]["exception"].get("description", "an exception"))
        elif method == "Log.entryAdded" and params["entry"]["level"] == "error":
            self.complaints.append(f"{params['entry']['text']} {params['entry'].get('url', '')}".strip())


@asynccontextmanager
async def browsing(path: str) -> AsyncIterator[Page]:
    """A page of a browser of its own, which knows no name but this machine's and keeps nothing."""
    with TemporaryDirectory(prefix="polygate-browser-", ignore_cleanup_errors=True) as folder:
        words = ["--headless=new", "--remote-debugging-port=0", f"--user-data-dir={folder}", "--no-first-run", "--disable-gpu"]
        words += [
            "--disable-background-networking",
            "--disable-dev-shm-usage",
            "--disable-extensions",
            "--no-default-browser-check",
        ]
        words += ["--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost"]
        # Its sandbox cannot be had as root, where CI often runs.
        words += ["--no-sandbox"] if os.geteuid() == 0 else []
        with subprocess.Popen([path, *words, "about:blank"], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL) as process:  # noqa: ASYNC220
            try:
                url = await asyncio.to_thread(_listening, process)
                async with connect(url, max_size=None, proxy=None) as socket, asyncio.TaskGroup() as group:
                    page = Page(socket, "")
                    listening = group.create_task(page.listen())
                    target = await page.call("Target.createTarget", url="about:blank")
                    page.session = (await page.call("Target.attachToTarget", targetId=target["targetId"], flatten=True))[
                        "sessionId"
                    ]
                    yield page
                    listening.cancel()
            finally:
                process.kill()
                assert process.stderr is not None
                process.stderr.close()


def _listening(process: subprocess.Popen[bytes]) -> str:
    """Where it listens, which it says on its standard error; read on a thread, for a pipe has no deadline."""
    assert process.stderr is not None
    said = []
    for line in process.stderr:
        said.append(line.decode(errors="replace"))
        if "DevTools listening on " in said[-1]:
            return said[-1].rpartition(" ")[2].strip()
    raise NoBrowserError("Chromium did not start:\n" + "".join(said))
