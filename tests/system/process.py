"""The gateway as its users run it: the command `polygate` in a process of its own, on free ports."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Self

import psutil

ROOT = Path(__file__).parents[2]
COMMAND = Path(sys.executable).with_name("polygate")
HANDING = Path(__file__).with_name("handing.py")
PATIENCE_S = 30

_PORT = re.compile(r"(bind: \S*?):\d+(?=[\"\s,}])")
_PATH = re.compile(r"\[(?:\.\./)+")
_LISTENS = re.compile(r"  (\S+) +(\S+) +(\S+:\d+)")


def on_free_ports(config: str) -> str:
    """A config with every `bind` on port 0, and with the paths that start at its folder made absolute."""
    return _PATH.sub(f"[{ROOT}/", _PORT.sub(r"\1:0", config))


class Gateway:
    """One `polygate run`. It listens once the constructor returns; `addresses` says where, by the listener's name."""

    def __init__(
        self,
        config: str,
        folder: Path,
        environment: Mapping[str, str] | None = None,
        prefix: Sequence[str] = (),
        sockets: Mapping[str, socket.socket] = MappingProxyType({}),
    ) -> None:
        """`prefix`: the words of a command that runs another one in its own place (strace -D). `sockets` are handed over, by the
        names of their listeners.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self.file = folder / "gateway.yaml"
        self.file.write_text(config)
        self.lines: list[str] = []
        self.errors = folder / "stderr"
        self.addresses: dict[str, str] = {}
        self._spoken = threading.Condition()
        self._ended = False
        descriptors = [one.fileno() for one in sockets.values()]
        handing = [sys.executable, HANDING, ",".join(map(str, descriptors)), ":".join(sockets)] if sockets else []
        with self.errors.open("ab") as errors:
            self.process = subprocess.Popen(
                [*prefix, *handing, COMMAND, "run", str(self.file)],
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                cwd=folder,
                pass_fds=descriptors,
                env={**os.environ, "POLYGATE_VAR": str(folder), **(environment or {})},
            )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self._await_banner()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self._spoken:
                self.lines.append(line.rstrip("\n"))
                self._spoken.notify_all()
        with self._spoken:
            self._ended = True
            self._spoken.notify_all()

    def _await_banner(self) -> None:
        """Until the routes are told: everything listens by then."""
        told = "routes, and a line to try each:"
        with self._spoken:
            self._spoken.wait_for(lambda: told in self.lines or self._ended, timeout=PATIENCE_S)
            lines = list(self.lines)
        if told not in lines:
            self.kill()
            raise AssertionError(f"the gateway did not start:\n{self.errors.read_text()}")
        for line in lines[: lines.index(told)]:
            if found := _LISTENS.fullmatch(line):
                self.addresses[found[1]] = found[3]

    def url(self, listener: str, path: str = "") -> str:
        """http://, or ws:// for the listener called live."""
        return f"{'ws' if listener == 'live' else 'http'}://{self.addresses[listener]}{path}"

    @property
    def rss_mib(self) -> float:
        """Memory that the process holds now."""
        return psutil.Process(self.process.pid).memory_info().rss / (1 << 20)

    def terminate(self) -> None:
        """Ask it to stop, as an orchestrator does."""
        self.process.send_signal(signal.SIGTERM)

    def wait(self) -> int:
        """Its exit code."""
        code = self.process.wait(PATIENCE_S)
        self._reader.join(PATIENCE_S)
        return code

    def kill(self) -> None:
        """End it at once, without a chance to tidy up; a no-op where it has ended."""
        self.process.kill()
        self.process.wait(PATIENCE_S)
        self._reader.join(PATIENCE_S)
        assert self.process.stdout is not None
        self.process.stdout.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
