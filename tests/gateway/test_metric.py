"""Counters and gauges of any part."""

from __future__ import annotations

import pytest

from gateway.exposition import metrics
from gateway.metric import Counter, Gauge, known


def test_a_counter_counts_for_each_set_of_labels_and_prometheus_shows_it():
    counter = Counter("test_counted", "What a test counts.", "who")
    counter.add(1, "ada")
    counter.add(2, "ada")
    counter.add(1, "bob")
    assert {("ada",): 3, ("bob",): 1} == counter.values()
    assert b'test_counted_total{who="ada"} 3.0' in metrics()


def test_a_gauge_is_read_when_it_is_asked_until_its_watcher_stops():
    gauge = Gauge("test_level", "What a test measures.")
    level = [1.0]
    stop = gauge.watch(lambda: level[0])
    level[0] = 5
    assert b"test_level 5.0" in metrics()
    stop()
    assert {} == gauge.values()


def test_the_watcher_before_does_not_stop_the_one_after_it():
    gauge = Gauge("test_followed", "What two watch.", "backend")
    first = gauge.watch(lambda: 1, "b")
    gauge.watch(lambda: 2, "b")
    first()
    assert {("b",): 2} == gauge.values()


def test_a_name_is_given_once():
    Counter("test_taken", "Once.")
    with pytest.raises(ValueError, match="test_taken"):
        Gauge("test_taken", "Twice.")
    assert "test_taken" in [metric.name for metric in known()]
