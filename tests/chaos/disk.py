"""A small disk of its own for one gateway: a tmpfs in a mount namespace that ends with its last process."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path


class Disk:
    """Mounted while entered. Whoever is not root gets the namespace of a user of its own for it."""

    def __init__(self, mib: int) -> None:
        self._mib = mib
        self._holder: subprocess.Popen[str]
        self._at = Path()

    @contextmanager
    def mounted(self, at: Path) -> Iterator[None]:
        """Mount it on a folder, for the processes that `words` start."""
        own = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
        mount = 'mount -t tmpfs -o "size=$1m" polygate "$2" && echo mounted && exec cat'
        # The holder ends with its standard input, so with us, however we end.
        self._holder = subprocess.Popen(
            ["unshare", *own, "--mount", "sh", "-c", mount, "sh", str(self._mib), str(at)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._at = at
        assert self._holder.stdin is not None
        assert self._holder.stdout is not None
        try:
            assert self._holder.stdout.readline() == "mounted\n", "no tmpfs can be mounted here"
            yield
        finally:
            self._holder.stdin.close()
            self._holder.wait()
            self._holder.stdout.close()

    @property
    def words(self) -> Sequence[str]:
        """The words before a command that is to see it."""
        own = [] if os.geteuid() == 0 else ["--user", "--preserve-credentials"]
        return ("nsenter", f"--target={self._holder.pid}", *own, "--mount", "--wd=" + str(self._at.parent))

    def seen(self, path: Path) -> Path:
        """A path on it, as seen from outside."""
        return Path(f"/proc/{self._holder.pid}/root{path}")

    def resize(self, mib: int) -> None:
        """Give it more room."""
        subprocess.run([*self.words, "mount", "-o", f"remount,size={mib}m", str(self._at)], check=True)
