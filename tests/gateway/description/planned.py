"""Plans of configs that stand in a test."""

from __future__ import annotations

from gateway.plan import plan
from tests.system.process import ROOT

SHOP = """
contracts: [{root}/protos/shop.binpb]
listeners:
  public: {{kind: rest, bind: "127.0.0.1:8080"}}
  live: {{kind: websocket, bind: "0.0.0.0:8081"}}
  admin: {{kind: admin, bind: "127.0.0.1:0"}}
{listeners}backends:
  events: {{kind: local, path: "{folder}/shop.db"}}
  erp: {{kind: http, url: "http://erp:8000"}}
  stub: {{kind: stub, answers: {{echo: {{echo: true}}}}}}
"""


def planned(folder, routes, backends="", listeners="", top=""):
    """The plan of a config with these routes, on the shop's contract."""
    file = folder / "gateway.yaml"
    file.write_text(SHOP.format(root=ROOT, folder=folder, listeners=listeners) + f"{backends}{top}routes:\n{routes}")
    return plan(file, {})


def references(node):
    """Every reference of a document."""
    if isinstance(node, list):
        return [reference for item in node for reference in references(item)]
    if not isinstance(node, dict):
        return []
    own = [node["$ref"]] if isinstance(node.get("$ref"), str) else []
    return own + [reference for value in node.values() for reference in references(value)]


def resolved(reference, document):
    """What it leads to. Raises KeyError where that is nothing."""
    for step in reference.removeprefix("#/").split("/"):
        document = document[step]
    return document
