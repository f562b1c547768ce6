"""Hands sockets over as systemd does (sd_listen_fds), and becomes the command that is to have them.

handing.py DESCRIPTOR,... NAME:... COMMAND [WORD ...]
"""

from __future__ import annotations

import fcntl
import os
import sys

FIRST = 3
ABOVE = 100


def main(descriptors: str, names: str, *command: str) -> None:
    """Replace this process."""
    # First all out of the way: one may have the number that another is to have.
    moved = [fcntl.fcntl(int(one), fcntl.F_DUPFD_CLOEXEC, ABOVE) for one in descriptors.split(",")]
    for number, one in enumerate(moved, FIRST):
        os.dup2(one, number)
    told = {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": str(len(moved)), "LISTEN_FDNAMES": names}
    os.execve(command[0], command, {**os.environ, **told})


if __name__ == "__main__":
    main(*sys.argv[1:])
