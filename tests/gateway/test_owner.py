"""What only one part of a config may have. How it is told stands in tests/golden."""

from __future__ import annotations

import pytest

from gateway.config import load
from gateway.owner import check_owners


@pytest.fixture
def told(tmp_path, monkeypatch):
    """What is said of a config, by path."""
    monkeypatch.chdir(tmp_path)

    def check(text: str) -> dict[str, str]:
        path = tmp_path / "gateway.yaml"
        path.write_text(text + "\nroutes: []\n")
        config = load(path, {})
        check_owners(config)
        return {problem.path: problem.text for problem in config.source.problems}

    return check


LISTENER = "listeners:\n  one: {{kind: rest, bind: '{one}'}}\n  two: {{kind: websocket, bind: '{two}'}}\n"
BACKENDS = "backends:\n  events: {kind: local, path: ./events.db}\n"


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("127.0.0.1:8080", "127.0.0.1:8080"),
        ("0.0.0.0:8080", "10.0.0.1:8080"),
        ("[::1]:8080", "[::]:8080"),
        ("localhost:8080", "127.0.0.1:8080"),
    ],
)
def test_a_port_of_an_address_has_one_listener(told, one, two):
    assert {"listeners.two.bind": f"{two} is taken by listener one on line 2"} == told(
        LISTENER.format(one=one, two=two) + BACKENDS
    )


@pytest.mark.parametrize(
    ("one", "two"),
    [("127.0.0.1:0", "127.0.0.1:0"), ("127.0.0.1:8080", "127.0.0.1:8081"), ("0.0.0.0:8080", "[::1]:8080")],
)
def test_what_is_not_the_same_port_of_the_same_address_is_nobody_elses(told, one, two):
    assert {} == told(LISTENER.format(one=one, two=two) + BACKENDS)


def test_a_file_has_one_backend(told):
    listeners = LISTENER.format(one="127.0.0.1:0", two="127.0.0.1:0")
    (problem,) = told(listeners + BACKENDS + "  more: {kind: local, path: events.db}\n").items()
    assert "backends.more" == problem[0]
    assert "has the same storage as events" in problem[1]


@pytest.mark.parametrize(
    ("said", "where", "text"),
    [
        ("state: {path: events.db}", "state.path", "is the file of backend events"),
        ("state: {backend: event}", "state.backend", "there is no backend 'event'; did you mean"),
        ("spool: {path: events.db}", "spool.path", "would take the file of backend events for its own"),
    ],
)
def test_what_the_gateway_keeps_has_a_place_of_its_own(told, said, where, text):
    found = told(LISTENER.format(one="127.0.0.1:0", two="127.0.0.1:0") + BACKENDS + said)
    assert [where] == list(found)
    assert text in found[where]
