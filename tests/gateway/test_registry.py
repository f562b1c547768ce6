from __future__ import annotations

from importlib.metadata import EntryPoint

import pytest

from gateway import registry
from gateway.registry import BACKEND, CODEC, INGRESS, POLICY, MissingKindError


@pytest.fixture
def registered(monkeypatch):
    """Entry points of our own in place of those that are installed."""

    def register(*entries: EntryPoint) -> None:
        registry.load.cache_clear()
        monkeypatch.setattr(registry, "kinds", lambda _group: {entry.name: entry for entry in entries})

    yield register
    registry.load.cache_clear()


def test_our_own_kinds_are_registered_as_any_others_are():
    assert {"rest", "grpc", "websocket", "topic", "admin"} <= registry.kinds(INGRESS).keys()
    assert {"local", "kafka", "http", "grpc", "stub"} <= registry.kinds(BACKEND).keys()
    assert {"deadline", "concurrency", "rate", "size", "headers", "observe"} <= registry.kinds(POLICY).keys()
    assert {"json", "protobuf", "text", "bytes"} <= registry.kinds(CODEC).keys()


def test_a_kind_is_loaded_by_its_name():
    assert "stub" == registry.load(BACKEND, "stub").__name__.lower().replace("config", "stub")


def test_a_kind_that_nobody_registered_is_told_with_those_that_are():
    with pytest.raises(MissingKindError, match=r"there is no kind 'nothing'; there are .*stub"):
        registry.load(BACKEND, "nothing")


@pytest.mark.parametrize(
    ("group", "kind", "extra"), [(INGRESS, "grpc", "grpc"), (BACKEND, "grpc", "grpc"), (BACKEND, "kafka", "kafka")]
)
def test_a_kind_with_an_extra_says_so_in_its_metadata(group, kind, extra):
    assert [extra] == list(registry.kinds(group)[kind].extras)


def test_a_kind_whose_library_is_missing_names_the_extra_to_install(registered):
    registered(EntryPoint("mqtt", "no_such_library_here.mqtt:Config [mqtt]", BACKEND))
    with pytest.raises(MissingKindError) as caught:
        registry.load(BACKEND, "mqtt")
    assert "mqtt needs no_such_library_here, which is not installed; pip install 'polygate[mqtt]'" == str(caught.value)


def test_a_kind_without_an_extra_names_what_is_missing(registered):
    registered(EntryPoint("mqtt", "no_such_library_here:Config", BACKEND))
    with pytest.raises(MissingKindError, match="install the package that has no_such_library_here"):
        registry.load(BACKEND, "mqtt")
