"""Which documents there are, and where callers are told to go."""

from __future__ import annotations

import json

from gateway.bind import Address
from gateway.description import NOT_YET, documents, servers, sockets
from tests.gateway.description.planned import planned

ROUTE = '\n  - {name: a, when: {rest: "GET /a", websocket: /a}, to: {backend: stub, call: echo}}\n'


def test_callers_are_told_where_listeners_listen_or_will(tmp_path):
    plan = planned(tmp_path, ROUTE)
    assert ("http://127.0.0.1:8080",) == servers(plan, NOT_YET)
    assert ("http://[::1]:5",) == servers(plan, {"public": Address("::1", 5)})
    assert {"live": "ws://localhost:8081"} == sockets(plan, NOT_YET)


def test_tls_is_told(tmp_path):
    plan = planned(tmp_path, ROUTE)
    secure = plan.config.listeners["public"].model_copy(update={"tls": object()})
    plan.config.listeners["public"] = secure
    assert ("https://127.0.0.1:8080",) == servers(plan, NOT_YET)


def test_documents_are_made_when_asked_for_and_follow_the_addresses(tmp_path):
    addresses = {}
    found = documents(planned(tmp_path, ROUTE), addresses)
    assert {"/openapi.json", "/asyncapi.json", "/contract.binpb"} == set(found)
    assert "http://127.0.0.1:8080" == json.loads(found["/openapi.json"].body())["servers"][0]["url"]
    addresses["public"] = Address("127.0.0.1", 99)
    assert "http://127.0.0.1:99" == json.loads(found["/openapi.json"].body())["servers"][0]["url"]
    assert "localhost:8081" == json.loads(found["/asyncapi.json"].body())["servers"]["live"]["host"]


def test_the_contract_is_the_one_that_was_read(tmp_path):
    plan = planned(tmp_path, ROUTE)
    assert b"".join(plan.config.contracts.files) == documents(plan, NOT_YET)["/contract.binpb"].body()


def test_without_contracts_there_is_none_to_serve(tmp_path):
    plan = planned(tmp_path, ROUTE)
    plan.config.contracts = type(plan.config.contracts)({})
    assert "/contract.binpb" not in documents(plan, NOT_YET)


def test_the_file_says_what_it_is_called_and_where_it_is_reached(tmp_path):
    documents_of = "documents: {name: The shop, version: 2.3.0, description: Tea., servers: [https://api.shop.example]}\n"
    found = documents(planned(tmp_path, ROUTE, top=documents_of), NOT_YET)
    openapi, asyncapi = (json.loads(found[path].body()) for path in ("/openapi.json", "/asyncapi.json"))
    assert {"title": "The shop", "version": "2.3.0", "description": "Tea."} == openapi["info"] == asyncapi["info"]
    assert [{"url": "https://api.shop.example"}] == openapi["servers"]
