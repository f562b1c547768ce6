from __future__ import annotations

import asyncio

from gateway.errors import BackendError, Reason
from gateway.listener import View
from gateway.ready import readiness


class Backend:
    def __init__(self, check) -> None:
        self.check = check


async def well() -> None:
    """Be ready."""


async def badly() -> None:
    raise BackendError(Reason.UNREACHABLE, "no broker answers")


async def never() -> None:
    await asyncio.Event().wait()


def view(**backends) -> View:
    return View(lambda *_: None, backends={name: Backend(check) for name, check in backends.items()})


async def test_a_gateway_is_ready_where_its_backends_are():
    assert {"ready": True, "backends": {"one": {"ready": True}, "two": {"ready": True}}} == await readiness(
        view(one=well, two=well), 1
    )


async def test_each_backend_that_is_not_ready_says_why():
    told = await readiness(view(one=well, two=badly, three=never), 0.01)
    assert {
        "ready": False,
        "backends": {
            "one": {"ready": True},
            "two": {"ready": False, "reason": "no broker answers"},
            "three": {"ready": False, "reason": "no answer within 0.01 s"},
        },
    } == told


async def test_a_gateway_that_stops_is_not_ready():
    stopping = view(one=well)
    stopping.ready = False
    assert {
        "ready": False,
        "backends": {"one": {"ready": True}},
        "reason": "the gateway is stopping",
    } == await readiness(stopping, 1)
