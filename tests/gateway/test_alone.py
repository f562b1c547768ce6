from __future__ import annotations

from pathlib import Path

import pytest

from gateway import worker
from gateway.plan import plan
from gateway.source import ConfigError
from gateway.worker import Worker

LOCAL = """
workers: {workers}
listeners: {{public: {{kind: rest, bind: "127.0.0.1:0"}}}}
backends: {{log: {{kind: local, path: "{path}"}}}}
routes: [{{name: put, when: {{rest: POST /put}}, to: {{backend: log, publish: put}}}}]
"""
STATE = """
workers: 2
listeners: {public: {kind: rest, bind: "127.0.0.1:0"}}
backends: {log: {kind: kafka, bootstrap: ["127.0.0.1:9"]}}
STATE
routes: [{name: put, when: {rest: POST /put}, to: {backend: log, publish: put, idempotency: {window: 60}}}]
"""


@pytest.mark.parametrize("path", ["log.db", ":memory:"])
def test_a_backend_of_one_process_is_refused_with_several(config, path):
    file = config(LOCAL.format(workers=2, path=path))
    with pytest.raises(ConfigError) as caught:
        plan(Path(file))
    text = "a local backend is of one process, and workers are 2: have one worker, or a broker"
    assert f"{file}:4 backends.log: {text}" == str(caught.value)


def test_with_one_worker_it_fits(config):
    plan(Path(config(LOCAL.format(workers=1, path="log.db"))))


def test_the_number_that_is_told_goes_before_that_of_the_file(config):
    plan(Path(config(LOCAL.format(workers=2, path="log.db"))), workers=1)
    with pytest.raises(ConfigError, match="workers are 3"):
        plan(Path(config(LOCAL.format(workers=1, path="log.db"))), workers=3)


def test_a_worker_knows_how_many_they_are_whatever_the_file_says_by_now(config, monkeypatch):
    monkeypatch.setattr(worker, "_own", Worker(1, 4))
    with pytest.raises(ConfigError, match="workers are 4"):
        plan(Path(config(LOCAL.format(workers=1, path="log.db"))))


def test_state_in_a_file_is_of_one_process_too_unless_they_share_it(config):
    file = config(STATE.replace("STATE", ""))
    with pytest.raises(ConfigError) as caught:
        plan(Path(file))
    text = "keeps state, in a file of one process, and workers are 2: let them share it (state: {backend: ...})"
    assert f"{file}:6 routes[0].to: {text}" == str(caught.value)
    plan(Path(config(STATE.replace("STATE", "state: {backend: log}"))))
