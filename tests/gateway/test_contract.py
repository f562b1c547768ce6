from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from gateway.config import load

ROOT = Path(__file__).parents[2]
LISTENERS = 'listeners: {public: {kind: rest, bind: "127.0.0.1:0"}}\n'
TEA = 'syntax = "proto3";\npackage tea;\nmessage Cup { string name = 1; }\nservice Kettle { rpc Boil(Cup) returns (Cup); }\n'
STUB = "backends: {stub: {kind: stub, answers: {echo: {echo: true}}}, log: {kind: local, path: ':memory:'}}\n"


@pytest.fixture
def loaded(tmp_path):
    """A config with these contracts, in a folder with tea.proto, protos/ and shop.binpb."""

    def loads(contracts: str, rest: str = ""):
        (tmp_path / "tea.proto").write_text(TEA)
        (tmp_path / "other").mkdir(exist_ok=True)
        (tmp_path / "other/tea.proto").write_text(TEA.replace("name", "colour"))
        shutil.copy(ROOT / "protos/shop.binpb", tmp_path)
        path = tmp_path / "gateway.yaml"
        path.write_text(f"contracts: {contracts}\n{LISTENERS}{rest}")
        return load(path, {})

    return loads


def problems(config) -> list[str]:
    return [f"{problem.path}: {problem.text}" for problem in config.source.problems]


@pytest.mark.parametrize("entry", ["tea.proto", "{proto: tea.proto}", "other", "other/", "{proto: other, roots: ['.']}"])
def test_a_text_is_the_path_of_a_proto_or_of_a_folder_of_them(loaded, entry):
    config = loaded(f"[{entry}]")
    assert [] == problems(config)
    assert {"tea.Kettle/Boil"} == config.contracts.methods.keys()


@pytest.mark.parametrize("entry", ["shop.binpb", "{descriptors: shop.binpb}"])
def test_any_other_path_is_a_descriptor_set(loaded, entry):
    assert "shop.v1.Orders/Place" in loaded(f"[{entry}]").contracts.methods


def test_all_sources_are_one(loaded):
    methods = loaded("[shop.binpb, tea.proto, shop.binpb]").contracts.methods
    assert {"shop.v1.Orders/Place", "tea.Kettle/Boil"} <= methods.keys()


def test_sources_that_contradict_each_other_are_told_by_name(loaded):
    config = loaded("[shop.binpb, tea.proto, {proto: other}]")
    assert ["contracts[2]: tea.proto is not the same as in tea.proto"] == problems(config)
    assert {"contracts"} == config.broken
    assert ["contracts[1]: tea.proto is not the same as in {proto: other}"] == problems(loaded("[{proto: other}, tea.proto]"))


@pytest.mark.parametrize(
    ("entry", "told"),
    [
        ("{reflecton: stock}", ['names one source: descriptors, proto, reflection; did you mean "reflection"?']),
        ("{}", ["names one source: descriptors, proto, reflection"]),
        ("{proto: tea.proto, reflection: stock}", ["names one source: descriptors, proto, reflection"]),
        ("{reflection: stock}", ["there is no grpc backend 'stock'; an address has a port"]),
        ("missing", ["missing cannot be read (no such file or directory); it is looked for beside this file"]),
        ("missing.proto", ["missing.proto cannot be read (no such file or directory); it is looked for beside this file"]),
    ],
)
def test_a_source_that_gives_nothing_is_told_with_its_entry(loaded, entry, told):
    assert [f"contracts[0]: {text}" for text in told] == problems(loaded(f"[{entry}]"))


def test_a_setting_of_a_source_is_validated(loaded):
    assert ['contracts[0].root: unknown field; did you mean "roots"?'] == problems(loaded("[{proto: tea.proto, root: x}]"))
    assert ["contracts[0].seconds: must be at most 60"] == [
        text.replace("less than or equal to 60", "at most 60") for text in problems(loaded("[{reflection: 'a:1', seconds: 61}]"))
    ]


def test_a_backend_in_which_something_is_wrong_is_not_asked_and_told_once(loaded):
    config = loaded("[{reflection: stock}]", "backends: {stock: {kind: grpc}}\n")
    assert ["backends.stock.address"] == [problem.path for problem in config.source.problems]
    assert {"backends", "contracts"} == config.broken


def schema_route(contract: str, to: str = "{backend: stub, call: echo}", more: str = "") -> str:
    return f"{STUB}routes: [{{name: a, when: {{rest: POST /a}}, contract: {contract}, to: {to}{more}}}]\n"


def test_a_route_may_have_json_schemas_in_place_of_a_method(loaded):
    config = loaded("[]", schema_route("{request: {title: order, type: object}, reply: {type: object}}"))
    assert [] == problems(config)
    assert "order -> the schema" == config.routes[0].contract.name
    assert {"a request", "a reply"} == config.contracts.digests.keys()


@pytest.mark.parametrize(
    ("rest", "told"),
    [
        (schema_route("{}"), ["routes[0].contract.request: is missing, and so is reply: a contract has one of them at least"]),
        (
            schema_route("{request: a.json}"),
            ["routes[0].contract.request: a.json cannot be read (no such file or directory); it is looked for beside this file"],
        ),
        (
            schema_route("{request: {type: objekt}, reply: {minimum: a}}"),
            [
                "routes[0].contract.request: the schema at /type: fits none of the schemas that it may have",
                "routes[0].contract.reply: the schema at /minimum: must be number",
            ],
        ),
        (
            schema_route("{reply: {type: object}}", "{backend: log, publish: a}"),
            ["routes[0].contract.reply: would never be asked: a publish answers a receipt, which is the gateway's own"],
        ),
        (
            schema_route("{request: {type: object}}", "{backend: log, tail: a}"),
            ["routes[0].contract.request: would never be asked: what a tail is asked is the gateway's own"],
        ),
        (
            schema_route("{request: {type: object}}", more=", json: {defaults: true}"),
            ["routes[0].json: is for contracts of protobuf: a JSON Schema says it all by itself"],
        ),
    ],
)
def test_a_schema_that_cannot_be_held_against_anything_is_refused(loaded, rest, told):
    assert told == problems(loaded("[]", rest))
