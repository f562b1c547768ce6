"""Named schemas are told once, and variants that come to the same are one."""

from __future__ import annotations

from gateway.schema import PLACE, Schemas, nullable


def test_a_schema_is_told_once_however_often_it_is_referred_to():
    schemas = Schemas()
    made = []

    def make():
        made.append(1)
        return {"type": "string"}

    document = {"one": schemas.refer("shop.Sku", "", make), "two": schemas.refer("shop.Sku", "", make)}
    told = schemas.told(document)
    assert 1 == len(made)
    assert {"$ref": f"{PLACE}shop.Sku"} == told["one"] == told["two"]
    assert {"schemas": {"shop.Sku": {"type": "string"}}} == told["components"]


def test_variants_that_come_to_the_same_are_one():
    schemas = Schemas()
    document = {
        "out": schemas.refer("shop.Sku", "", lambda: {"type": "string"}),
        "in": schemas.refer("shop.Sku", "Input", lambda: {"type": "string"}),
    }
    assert {"shop.Sku": {"type": "string"}} == schemas.told(document)["components"]["schemas"]


def test_variants_that_differ_have_names_of_their_own():
    schemas = Schemas()
    document = {
        "in": schemas.refer("shop.Sku", "Input", lambda: {"type": ["string", "null"]}),
        "out": schemas.refer("shop.Sku", "", lambda: {"type": "string"}),
    }
    told = schemas.told(document)
    assert {"$ref": f"{PLACE}shop.Sku.Input"} == told["in"]
    assert {"$ref": f"{PLACE}shop.Sku"} == told["out"]


def test_variants_differ_where_what_they_refer_to_does():
    schemas = Schemas()

    def node(variant, inner):
        return schemas.refer("Node", variant, lambda: {"items": schemas.refer("Leaf", variant, lambda: inner)})

    told = schemas.told({"out": node("", {"type": "string"}), "in": node("Input", {"type": "null"})})
    assert {"Leaf", "Leaf.Input", "Node", "Node.Input"} == set(told["components"]["schemas"])


def test_a_schema_may_refer_to_itself():
    schemas = Schemas()

    def make():
        return {"properties": {"left": schemas.refer("Tree", "", make)}}

    told = schemas.told({"root": schemas.refer("Tree", "", make)})
    assert {"Tree": {"properties": {"left": {"$ref": f"{PLACE}Tree"}}}} == told["components"]["schemas"]


def test_a_name_that_no_component_can_have_is_made_fit():
    schemas = Schemas()
    assert {"$ref": f"{PLACE}place_order"} == schemas.told({"it": schemas.refer("place order", "", dict)})["it"]


def test_what_a_document_keeps_itself_stays():
    told = Schemas().told({"components": {"responses": {"Gone": {}}}})
    assert {"components": {"responses": {"Gone": {}}}} == told


def test_nullable_keeps_what_a_schema_says():
    assert {"type": ["string", "null"], "minLength": 1} == nullable({"type": "string", "minLength": 1})
    assert {"type": ["integer", "string", "null"]} == nullable({"type": ["integer", "string"]})
    assert {"anyOf": [{"$ref": "#/x"}, {"type": "null"}]} == nullable({"$ref": "#/x"})
    assert {"anyOf": [{"type": "string"}, {"type": "integer"}, {"type": "null"}]} == nullable(
        {"anyOf": [{"type": "string"}, {"type": "integer"}]}
    )
    assert {"anyOf": [{"type": "string", "enum": ["A"]}, {"type": "null"}]} == nullable({"type": "string", "enum": ["A"]})
