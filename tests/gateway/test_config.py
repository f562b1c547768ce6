from __future__ import annotations

import json
from importlib.metadata import EntryPoint

import pytest

from gateway import registry
from gateway.config import load
from gateway.source import ConfigError

LISTENERS = 'listeners:\n  public: {kind: rest, bind: "127.0.0.1:8080"}\n'


@pytest.fixture
def loaded(tmp_path):
    def loads(text: str, environment=None):
        path = tmp_path / "gateway.yaml"
        path.write_text(text)
        return load(path, environment or {})

    return loads


def texts(config) -> list[str]:
    return [f"{problem.path}: {problem.text}" for problem in config.source.problems]


def test_a_part_is_the_model_of_its_kind(loaded):
    config = loaded(LISTENERS + 'backends: {events: {kind: local, path: ":memory:"}}\n')
    assert [] == texts(config)
    assert ("rest", "local") == (config.listeners["public"].kind, config.backends["events"].kind)


def test_a_config_may_be_json(loaded):
    config = loaded(json.dumps({"listeners": {"public": {"kind": "rest", "bind": "127.0.0.1:8080"}}}, indent=2))
    assert ["public"] == list(config.listeners)


def test_a_section_that_is_empty_is_as_good_as_absent(loaded):
    assert [] == texts(loaded(LISTENERS + "backends:\nroutes:\npolicies:\ndrain:\ncontracts:\n"))


def test_a_file_without_listeners_says_what_one_looks_like(loaded):
    config = loaded("routes: []\n")
    assert ['listeners: is missing; for example {public: {kind: rest, bind: "127.0.0.1:8080"}}'] == texts(config)
    assert {"listeners"} == config.broken


def test_what_is_no_mapping_is_no_config(loaded):
    with pytest.raises(ConfigError, match="`polygate init` writes one"):
        loaded("just a text\n")


def test_a_number_may_come_from_a_variable(loaded):
    text = 'listeners: {a: {kind: rest, bind: "127.0.0.1:${PORT}", max_fields: "${N}"}}\n'
    config = loaded(text, {"PORT": "8080", "N": "12"})
    assert ("127.0.0.1:8080", 12) == (config.listeners["a"].bind, config.listeners["a"].max_fields)


def test_what_only_follows_from_another_problem_is_not_told(loaded):
    config = loaded(LISTENERS + "backends: 5\nroutes: [{name: a, when: {rest: GET /a}, to: {backend: b, call: c}}]\n")
    assert ["backends: must be a mapping, from a name to a part with its kind"] == texts(config)


@pytest.fixture
def uninstalled(monkeypatch):
    """A kind of a group whose library is not installed."""

    def register(group: str) -> None:
        entry = EntryPoint("mqtt", "no_such_library_here:Config [mqtt]", group)
        known = registry.kinds
        monkeypatch.setattr(registry, "kinds", lambda asked: {**known(asked), **({"mqtt": entry} if asked == group else {})})
        registry.load.cache_clear()

    yield register
    registry.load.cache_clear()


REMEDY = "mqtt needs no_such_library_here, which is not installed; pip install 'polygate[mqtt]'"


def test_the_kind_of_a_missing_library_is_one_problem_among_the_others(loaded, uninstalled):
    uninstalled(registry.BACKEND)
    told = texts(loaded(LISTENERS + "backends: {queue: {kind: mqtt}, stub: {kind: stub}}\n"))
    assert f"backends.queue.kind: {REMEDY}" == told[0]
    assert told[1].startswith("backends.stub.answers: is missing; for example ")


def test_the_format_of_a_missing_library_is_a_problem_where_a_route_names_it(loaded, uninstalled):
    uninstalled(registry.CODEC)
    backends = 'backends: {events: {kind: local, path: ":memory:"}}\n'
    assert [] == texts(loaded(LISTENERS + backends))
    route = "routes: [{name: a, when: {rest: GET /a}, to: {backend: events, tail: a, format: mqtt}}]\n"
    assert [f"routes[0].to.format: {REMEDY}"] == texts(loaded(LISTENERS + backends + route))


def test_the_descriptor_set_that_is_none_is_named(loaded, tmp_path):
    (tmp_path / "good.binpb").write_bytes(b"")
    (tmp_path / "bad.binpb").write_bytes(b"\xff")
    config = loaded("contracts: [good.binpb, bad.binpb]\n" + LISTENERS)
    assert ["contracts[1]"] == [problem.path for problem in config.source.problems]


def test_a_thousand_routes_are_read_without_reading_any_twice(loaded):
    routes = "\n".join(
        f'  - {{name: r{n}, when: {{rest: "POST /r{n}/{{id}}"}}, to: {{backend: events, publish: t{n}}}}}' for n in range(1000)
    )
    config = loaded(LISTENERS + f'backends: {{events: {{kind: local, path: ":memory:"}}}}\nroutes:\n{routes}\n')
    assert [] == texts(config)
    assert 1000 == len(config.routes)
    assert 1004 == config.source.line(("routes", 999))
