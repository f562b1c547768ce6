from __future__ import annotations

from gateway import worker
from gateway.worker import Worker, become, own


def test_a_process_of_its_own_is_number_0():
    assert Worker() == own()
    assert Worker() == become({})


def test_a_worker_is_what_its_environment_tells_and_no_child_of_it_is(monkeypatch):
    monkeypatch.setattr(worker, "_own", Worker())
    told = Worker(2, 7, {"public": [8, 9]}, {"rpc": 9090})
    environment = {**told.told(), "OTHER": "1"}
    assert told == become(environment)
    assert told == own()
    assert {"OTHER": "1"} == environment
