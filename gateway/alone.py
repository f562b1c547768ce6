"""What can be of one process only is refused, when the config is loaded, where `workers` asks for several."""

from __future__ import annotations

from collections.abc import Iterable

from gateway.binding import PlannedRoute
from gateway.config import Config
from gateway.worker import own


def check_alone(config: Config, routes: Iterable[PlannedRoute]) -> None:
    """Note every part that workers cannot share."""
    workers = own().of or config.file.workers
    if workers == 1:
        return
    for name, backend in config.backends.items():
        if backend.alone:
            text = f"a {backend.kind} backend is of one process, and workers are {workers}: have one worker, or a broker"
            config.source.wrong(("backends", name), text)
    if config.file.state.backend is not None:
        return
    for route in routes:
        if "state" in route.to.needs():
            text = (
                f"keeps state, in a file of one process, and workers are {workers}: let them share it (state: {{backend: ...}})"
            )
            config.source.wrong((*route.where, "to"), text)
