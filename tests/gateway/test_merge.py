"""Several files as one config."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.merge import read_all
from gateway.plan import plan
from gateway.source import ConfigError


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Give what writes files into the folder that we are in, by their names."""
    monkeypatch.chdir(tmp_path)

    def write(**files: str) -> None:
        for name, text in files.items():
            path = Path(name.replace("__", "/") + ".yaml")
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)

    return write


def problems(*paths: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        plan([Path(path) for path in paths], {})
    return [str(problem) for problem in caught.value.problems]


LISTENER = "listeners: {public: {kind: rest, bind: '127.0.0.1:0'}}\n"
STUB = "backends: {stub: {kind: stub, answers: {a: {body: 1}}}}\n"


def route(name: str, to: str = "stub, call: a") -> str:
    return f"routes:\n  - {{name: {name}, when: {{rest: GET /{name}}}, to: {{backend: {to}}}}}\n"


def test_sections_are_merged_by_name_and_lists_one_behind_the_other(folder):
    folder(a=LISTENER + route("one") + "drain: {pause: 1}\n", b=STUB + route("two") + "drain: {seconds: 5}\n")
    planned = plan([Path("a.yaml"), Path("b.yaml")], {})
    assert ["one", "two"] == [one.name for one in planned.routes]
    assert (1, 5) == (planned.config.file.drain.pause, planned.config.file.drain.seconds)
    assert ["a.yaml:3", "b.yaml:3"] == [one.bindings[0].origin for one in planned.routes]


def test_the_files_of_a_folder_are_read_by_their_names_less_what_is_hidden(folder):
    folder(d__2=STUB + route("two"), d__1=LISTENER + route("one"))
    Path("d/.3.yaml").write_text("oops: 1\n")
    Path("d/notes.txt").write_text("oops: 1\n")
    Path("d/4.yaml").mkdir()
    Path("d/5.yml").write_text(route("five"))
    assert ["one", "two", "five"] == [one.name for one in plan(Path("d"), {}).routes]


def test_a_name_that_stands_in_two_files_is_refused_with_both_places(folder):
    folder(a=LISTENER + STUB, b="\n" + LISTENER)
    assert ["b.yaml:2 listeners.public: public is in a.yaml:1 already"] == problems("a.yaml", "b.yaml")


def test_a_section_of_another_kind_than_before_is_refused_with_both_places(folder):
    folder(a=LISTENER + STUB + route("one"), b="routes: {two: 2}\n")
    assert ["b.yaml:1 routes: routes is in a.yaml:3 already"] == problems("a.yaml", "b.yaml")


def test_every_problem_is_told_with_its_own_file_line_and_path(folder):
    folder(a=LISTENER + STUB + route("one"), b=route("two", "stub, cal: a"), c=route("three", "stubs, call: a"))
    assert [
        'b.yaml:2 routes[0].to.cal: unknown field; did you mean "call"?',
        "c.yaml:2 routes[0].to.backend: there is no backend 'stubs'; did you mean \"stub\"?",
    ] == problems("a.yaml", "b.yaml", "c.yaml")


def test_what_contradicts_another_file_names_the_place_there(folder):
    folder(a=LISTENER + STUB + route("one"), b=route("one"), c="listeners: {more: {kind: admin, bind: '127.0.0.1:80'}}")
    folder(d="listeners: {most: {kind: admin, bind: ':80'}}\n" + route("z").replace("/z", "/one"))
    assert [
        "b.yaml:2 routes[0].name: one is the name of the route in a.yaml:4 too",
        "b.yaml:2 routes[0].when.rest: GET /one is taken by route one in a.yaml:4",
        "d.yaml:1 listeners.most.bind: :80 is taken by listener more in c.yaml:1",
        "d.yaml:3 routes[0].when.rest: GET /one is taken by route one in a.yaml:4",
    ] == problems("a.yaml", "b.yaml", "c.yaml", "d.yaml")


def test_files_that_cannot_be_read_are_told_together(folder):
    folder(a=LISTENER, b="a: [\n", c="- no mapping\n")
    told = problems("a.yaml", "b.yaml", "c.yaml", "nowhere.yaml")
    assert ["b.yaml:2", "c.yaml:1", "nowhere.yaml:1"] == [one.split()[0] for one in told]
    assert "a config is a mapping" in told[1]


def test_an_empty_file_adds_nothing_and_several_are_no_config(folder):
    folder(a="# nothing yet\n", b=LISTENER)
    assert plan([Path("a.yaml"), Path("b.yaml")], {}).config.listeners.keys() == {"public"}
    folder(b="")
    assert ["a.yaml:1 a config is a mapping with `listeners`, `backends` and `routes`; `polygate init` writes one"] == problems(
        "a.yaml", "b.yaml"
    )


def test_an_empty_section_is_as_good_as_none(folder):
    folder(a=LISTENER + "routes:\n", b=STUB + route("one"), c="routes:\n")
    assert ["one"] == [one.name for one in plan([Path("a.yaml"), Path("b.yaml"), Path("c.yaml")], {}).routes]


def test_a_folder_without_a_config_is_told(folder):
    Path("d").mkdir()
    assert ["d:1 has no .yaml file in it"] == problems("d")


def test_relative_paths_start_at_the_folder_of_their_own_file(folder):
    folder(a=LISTENER, d__b=STUB + "contracts: [one.proto]\n" + "documents: {description: '${file:told}'}\n")
    Path("d/told").write_text("of d\n")
    Path("d/one.proto").write_text('syntax = "proto3"; package one; message One {}; service S { rpc Say(One) returns (One); }')
    planned = plan([Path("a.yaml"), Path("d")], {})
    assert "of d" == planned.config.file.documents.description
    assert ["one.S/Say"] == list(planned.config.contracts.methods)


def test_a_variable_that_is_not_set_is_told_once_and_where_it_stands(folder):
    folder(a=LISTENER, b="backends: {stub: {kind: '${KIND}', answers: {}}}\n")
    assert ["b.yaml:1 backends.stub.kind: ${KIND} is not set; set it, or give a default: ${KIND:-...}"] == problems(
        "a.yaml", "b.yaml"
    )


def test_it_knows_every_file_and_folder_that_the_config_is_made_of(folder):
    folder(d__a=LISTENER, b="documents: {description: '${file:told}'}\n")
    Path("told").write_text("")
    assert {Path("d"), Path("d/a.yaml"), Path("b.yaml"), Path("told")} == read_all([Path("d"), Path("b.yaml")], {}).inputs.keys()
    folder(b="documents: {description: '${file:gone}'}\n")
    with pytest.raises(ConfigError) as caught:
        plan([Path("d"), Path("b.yaml")], {})
    assert {Path("d"), Path("d/a.yaml"), Path("b.yaml"), Path("gone")} == caught.value.inputs.keys()
    assert caught.value.inputs[Path("gone")] is None
