"""Whether exchanges would be served now."""

from __future__ import annotations

import asyncio

from gateway.errors import BackendError, Reason
from gateway.port import View
from gateway.ready import readiness
from gateway.route import Table


class Backend:
    def __init__(self, trouble=None):
        self.trouble = trouble

    async def check(self):
        if self.trouble is not None:
            raise self.trouble
        await asyncio.sleep(0)


def view(**told):
    return View(Table(lambda _protocol, error: error).find, **told)


AWAY = BackendError(Reason.UNREACHABLE, "the broker is away")


async def test_a_gateway_is_ready_when_all_of_its_backends_are():
    assert {"ready": True, "backends": {"b": {"ready": True}}} == await readiness(view(backends={"b": Backend()}), 1)
    told = await readiness(view(backends={"b": Backend(AWAY), "c": Backend()}), 1)
    assert {"b": {"ready": False, "reason": "the broker is away"}, "c": {"ready": True}} == told["backends"]
    assert not told["ready"]


async def test_a_backend_that_says_nothing_in_time_is_not_ready():
    silent = Backend()
    silent.check = asyncio.Event().wait
    told = await readiness(view(backends={"b": silent}), 0.01)
    assert (False, "no answer within 0.01 s") == (told["ready"], told["backends"]["b"]["reason"])


async def test_a_gateway_that_cannot_keep_what_it_is_to_keep_is_not_ready_and_says_why():
    told = await readiness(view(keeps=Backend(BackendError(Reason.UNREACHABLE, "the disk is full")).check), 1)
    assert {"ready": False, "backends": {}, "reason": "the disk is full"} == told


async def test_a_gateway_that_stops_is_not_ready():
    told = await readiness(view(ready=False), 1)
    assert (False, "the gateway is stopping") == (told["ready"], told["reason"])
