from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
import yaml

from gateway import registry
from gateway.config import load
from gateway.document import installed, schema
from gateway.file import FileConfig, RouteConfig

ROOT = Path(__file__).parents[2]
PAGES = sorted((ROOT / "docs/reference").glob("*.md"))


@pytest.fixture(scope="module")
def made():
    return schema()


def references(node) -> set[str]:
    if isinstance(node, list):
        return set().union(*map(references, node)) if node else set()
    if not isinstance(node, dict):
        return set()
    return set().union({node["$ref"]} if "$ref" in node else set(), *map(references, node.values()))


def test_everything_that_is_referred_to_is_there(made):
    assert set() == {reference for reference in references(made) if reference.removeprefix("#/$defs/") not in made["$defs"]}


def test_every_section_and_every_kind_has_its_fields(made):
    assert FileConfig.model_fields.keys() == made["properties"].keys()
    assert {field.alias or name for name, field in RouteConfig.model_fields.items()} == made["$defs"]["file.RouteConfig"][
        "properties"
    ].keys()
    for group, noun in ((registry.INGRESS, "listener"), (registry.BACKEND, "backend"), (registry.POLICY, "policy")):
        for kind, model in installed(group):
            assert model.model_fields.keys() == made["$defs"][f"{noun}.{kind}"]["properties"].keys()


def test_every_field_is_described(made):
    bare = [
        f"{name}.{field}"
        for name, model in made["$defs"].items()
        for field, told in model.get("properties", {}).items()
        if field != "kind" and not told.get("description") and "$ref" not in told
    ]
    assert [] == bare


def test_a_part_that_names_its_kind_has_that_kinds_fields(made):
    cases = made["properties"]["listeners"]["additionalProperties"]["allOf"]
    assert {"const": "rest"} in [case["if"]["properties"]["kind"] for case in cases]
    assert {"$ref": "#/$defs/listener.rest"} in [case["then"] for case in cases]


def test_a_target_has_the_fields_of_its_verb(made):
    cases = made["$defs"]["file.RouteConfig"]["properties"]["to"]["allOf"]
    assert [["call"], ["publish"], ["ask"], ["results"], ["tail"]] == [case["if"]["required"] for case in cases]


def test_a_number_may_be_a_variable(made):
    assert {"integer", "string"} == set(made["$defs"]["listener.rest"]["properties"]["max_fields"]["type"])


def test_a_kind_whose_library_is_missing_is_left_out(monkeypatch):
    def load_none(_group, kind):
        raise registry.MissingKindError(kind)

    monkeypatch.setattr(registry, "load", load_none)
    assert [] == list(installed(registry.BACKEND))


def test_the_schema_that_editors_read_is_json():
    assert "polygate" == json.loads((ROOT / "config/schema.json").read_text())["title"]


EXAMPLES = [
    (page.stem, number, block)
    for page in PAGES
    for number, block in enumerate(re.findall(r"```yaml\n(.*?)```", page.read_text(), re.DOTALL))
]


@pytest.mark.parametrize(
    ("page", "block"), [(page, block) for page, _, block in EXAMPLES], ids=[f"{p}-{n}" for p, n, _ in EXAMPLES]
)
def test_every_example_of_the_reference_loads(tmp_path, monkeypatch, page, block):
    example = yaml.safe_load(block)
    if "to" in example:
        kind = page.removeprefix("backend-")
        parts = {f"my-{kind}": yaml.safe_load(next(text for name, _, text in EXAMPLES if name == page))["backends"][f"my-{kind}"]}
        example = {"backends": parts, "routes": [{"name": "a", "when": {"rest": "POST /a"}, **example}]}
    example.setdefault("listeners", {"one": {"kind": "rest", "bind": "127.0.0.1:8080"}})
    if page.startswith("contract-"):
        shutil.copy(ROOT / "protos/shop.binpb", tmp_path)
        shutil.copytree(ROOT / "protos", tmp_path / "protos")
        example["backends"] = {"stock": {"kind": "grpc", "address": "stock:50051"}}
        # Whoever is asked by reflection must be there; what is proved here is that the example is a config.
        monkeypatch.setattr("adapters.contract.reflection.Config.read", lambda *_: b"")
    path = tmp_path / "gateway.yaml"
    path.write_text(yaml.safe_dump(example))
    assert [] == [str(problem) for problem in load(path, {}).source.problems]
