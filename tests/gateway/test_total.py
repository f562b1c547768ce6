from __future__ import annotations

import json

from gateway.total import Families, Family, Totals, of_worker, read, remains, total


def families(*some: Family) -> Families:
    return {one.name: one for one in some}


def counter(name: str, number: float, *labels: tuple[str, str]) -> Family:
    return Family(name, "counter", "about", samples={(f"{name}_total", labels): number})


def gauge(name: str, number: float, *labels: tuple[str, str], across: str = "sum") -> Family:
    return Family(name, "gauge", "about", across, {(name, labels): number})


A = ("route", "a")
B = ("route", "b")


def test_counters_and_gauges_of_several_add_up_by_their_labels():
    whole = total(
        (
            families(counter("calls", 2, A), gauge("open", 1, A)),
            families(counter("calls", 3, A), gauge("open", 2, A)),
            families(counter("calls", 5, B)),
        )
    )
    assert {("calls_total", (A,)): 5, ("calls_total", (B,)): 5} == whole["calls"].samples
    assert {("open", (A,)): 3} == whole["open"].samples


def test_a_histogram_adds_up_bucket_by_bucket():
    one = Family("seconds", "histogram", "about", samples={("seconds_bucket", (("le", "1"),)): 2, ("seconds_sum", ()): 0.5})
    assert {("seconds_bucket", (("le", "1"),)): 4, ("seconds_sum", ()): 1.0} == total((families(one), families(one)))[
        "seconds"
    ].samples


def test_a_gauge_may_say_that_the_greatest_counts():
    whole = total((families(gauge("age", 7, across="max")), families(gauge("age", 3, across="max"))))
    assert {("age", ()): 7} == whole["age"].samples


def test_what_is_of_a_process_itself_says_of_which():
    told = families(gauge("process_open_fds", 5), counter("calls", 1))
    whole = total((of_worker(told, 1), of_worker(told, 2)))
    assert {("process_open_fds", (("worker", "1"),)): 5, ("process_open_fds", (("worker", "2"),)): 5} == whole[
        "process_open_fds"
    ].samples
    assert {("calls_total", ()): 2} == whole["calls"].samples


def test_what_a_process_tells_comes_through_json_as_it_was():
    told = families(counter("calls", 2, A), gauge("age", 1.5, across="max"))
    assert told == read(json.loads(json.dumps([one.plain() for one in told.values()])))


def test_what_a_dead_worker_had_counted_stays_and_its_gauges_go():
    totals = Totals()
    totals.told(1, families(counter("calls", 2, A), gauge("open", 1), gauge("process_open_fds", 5)))
    totals.told(2, families(counter("calls", 3, A), gauge("open", 4)))
    before = totals.whole()
    totals.died(1)
    after = totals.whole()
    assert before["calls"] == after["calls"]
    assert {("open", ()): 4} == after["open"].samples
    assert "process_open_fds" not in after
    totals.told(1, families(counter("calls", 1, A)))
    assert {("calls_total", (A,)): 6} == totals.whole()["calls"].samples


def test_what_a_dead_worker_had_under_way_is_counted_as_unknown_so_that_the_accounts_hold():
    route = (A, ("protocol", "rest"))
    done = ("outcome", "acknowledged"), ("reason", "")
    dead = families(
        counter("polygate_exchanges_accepted", 5, *route),
        gauge("polygate_exchanges_in_flight", 2, *route),
        counter("polygate_exchanges", 3, *route, *done),
    )
    left = remains(dead)
    assert {"polygate_exchanges_accepted", "polygate_exchanges"} == left.keys()
    assert {
        ("polygate_exchanges_total", (*route, *done)): 3,
        ("polygate_exchanges_total", (*route, ("outcome", "unknown"), ("reason", "died"))): 2,
    } == left["polygate_exchanges"].samples


def test_a_worker_that_never_told_anything_leaves_nothing():
    totals = Totals()
    totals.died(1)
    assert {} == totals.whole()
