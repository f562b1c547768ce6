"""Questions whose answers are fetched later, and those answers, as OpenAPI tells them."""

from __future__ import annotations

import pytest

from gateway.description.openapi import openapi
from tests.gateway.description.planned import planned

ASK = """
  - name: quote
    contract: shop.v1.Quotes/Ask
    when: {{rest: "POST /quotes/{{sku}}"}}
    to: {{backend: events, ask: asked, reply_to: answered{later}}}
"""


@pytest.fixture
def document(tmp_path):
    return lambda later=", later: {}": openapi(planned(tmp_path, ASK.format(later=later)), ())


def test_an_ask_whose_answer_is_kept_tells_of_prefer_and_of_where_the_answer_will_be(document):
    told = document()
    one = told["paths"]["/quotes/{sku}"]["post"]
    assert ["sku", "Prefer"] == [parameter["name"] for parameter in one["parameters"]]
    assert {"200", "202"} == {status for status in one["responses"] if status < "300"}
    assert {"x-request-id", "retry-after", "location", "preference-applied"} == one["responses"]["202"]["headers"].keys()
    assert ["id", "state"] == told["components"]["schemas"]["Pending"]["required"]


def test_its_answer_is_told_with_the_reply_of_the_ask_and_the_stream_that_it_can_be_waited_for_by(document):
    told = document()
    one = told["paths"]["/quotes/{sku}/{id}"]["get"]
    assert [("sku", "path"), ("id", "path"), ("wait", "query")] == [(each["name"], each["in"]) for each in one["parameters"]]
    asked = told["paths"]["/quotes/{sku}"]["post"]["responses"]["200"]["content"]["application/json"]
    content = one["responses"]["200"]["content"]
    assert asked["schema"] == content["application/json"]["schema"]
    assert "One event" in content["text/event-stream"]["schema"]["description"]
    assert {"retry-after", "x-request-id"} == one["responses"]["202"]["headers"].keys()
    assert "requestBody" not in one
    assert {"404", "422", "503"} <= one["responses"].keys()


def test_an_ask_whose_answer_is_not_kept_tells_of_neither(document):
    told = document("")
    one = told["paths"]["/quotes/{sku}"]["post"]
    assert (["sku"], False) == ([parameter["name"] for parameter in one["parameters"]], "202" in one["responses"])
    assert ["/quotes/{sku}"] == list(told["paths"])
