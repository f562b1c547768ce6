"""What a route's messages mean, by the contracts that it names."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.codec import Contract
from gateway.config import load
from gateway.fit import fitted

ROOT = Path(__file__).parents[2]
SHOP = """
contracts: [{root}/protos/shop.binpb]
listeners:
  public: {{kind: rest, bind: "127.0.0.1:0"}}
  rpc: {{kind: grpc, bind: "127.0.0.1:0"}}
backends:
  stock: {{kind: grpc, address: "127.0.0.1:1"}}
  events: {{kind: local, path: ":memory:"}}
routes:
  - {{name: a, {route}}}
"""


@pytest.fixture
def meant(tmp_path):
    """The contracts of a route's two sides by their names, or the problems."""

    def names(route: str) -> tuple[str | None, ...] | str:
        path = tmp_path / "gateway.yaml"
        path.write_text(SHOP.format(root=ROOT, route=route))
        config = load(path, {})
        routes = fitted(config)
        if config.source.problems:
            return "\n".join(problem.text for problem in config.source.problems)
        (found,) = routes
        return tuple(one.name if isinstance(one, Contract) else None for one in (found.contract, found.target_contract))

    return names


MAP = "policies: [{kind: map, request: {sku: '=body.name'}, reply: {left: '=body.quantity'}}]"


def test_both_sides_mean_what_the_target_calls(meant):
    assert ("shop.v1.Stock/Get",) * 2 == meant("when: {rest: 'GET /stock/{sku}'}, to: {backend: stock, call: shop.v1.Stock/Get}")


def test_both_sides_mean_what_grpc_calls_the_route_by(meant):
    route = "when: {grpc: shop.v1.Orders/Place}, to: {backend: events, publish: t}"
    assert ("shop.v1.Orders/Place",) * 2 == meant(route)


def test_a_method_that_means_something_else_is_refused(meant):
    route = "when: {grpc: shop.v1.Quotes/Ask}, to: {backend: stock, call: shop.v1.Stock/Get}"
    assert "takes shop.v1.GetStock, but shop.v1.Quotes/Ask takes shop.v1.AskQuote" in meant(route)


def test_what_a_policy_builds_anew_may_mean_something_else_for_the_target(meant):
    target = "to: {backend: stock, call: shop.v1.Stock/Get}"
    assert (None, "shop.v1.Stock/Get") == meant(f"when: {{rest: POST /old}}, {MAP}, {target}")


def test_a_variable_that_is_no_field_is_refused_with_the_nearest(meant):
    route = "when: {rest: 'GET /stock/{skuu}'}, to: {backend: stock, call: shop.v1.Stock/Get}"
    assert 'no field of shop.v1.GetStock, so every call would be refused; did you mean "sku"?' in meant(route)
