"""Where the values of a config stand, and how what is wrong with them is told."""

from __future__ import annotations

from pathlib import Path

from gateway.source import ConfigError, Problem, Source, path_text


def test_a_path_is_written_as_people_write_it():
    assert "routes[3].to.topic" == path_text(("routes", 3, "to", "topic"))


def test_problems_come_in_the_order_of_the_file_and_once_each():
    first, second = Problem("f", 1, "a", "x"), Problem("f", 2, "b", "y")
    assert [first, second] == ConfigError([second, first, second]).problems


def test_what_is_wrong_is_told_at_the_nearest_line_that_is_there():
    source = Source("f", Path(), lines={(): 1, ("a",): 3})
    source.wrong(("a", "b"), "is missing")
    assert ["f:3 a.b: is missing"] == [str(problem) for problem in source.error().problems]


def test_of_a_place_whose_variable_has_no_value_nothing_more_is_told():
    source = Source("f", Path(), unfilled={("a",)})
    source.wrong(("a",), "is no number")
    assert [] == source.problems


def test_a_place_of_a_config_of_several_files_is_told_in_its_own_file():
    part = Source("part", Path("there"), lines={(): 1, ("routes", 0): 7})
    whole = Source("whole", Path("here"), parts={("routes", 3): (part, ("routes", 0))})
    assert ("part:7", Path("there")) == (whole.origin(("routes", 3, "to")), whole.folder(("routes", 3, "to")))
    assert ("in part:7", "on line 1") == (whole.seen_from(("state",), ("routes", 3)), whole.seen_from(("state",), ("spool",)))
