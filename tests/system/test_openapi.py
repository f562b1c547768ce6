"""The gateway driven from its own OpenAPI: by schemathesis, which looks for a lie in it, and by a client generated from it."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from urllib.request import urlopen

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from tests.system.conftest import SHOP
from tests.system.process import COMMAND, ROOT, Gateway

DESCRIBED = ROOT / "tests/system/described"
BIN = Path(sys.executable).parent
# So many of each kind for each operation: some thousand calls within half a minute.
EXAMPLES = 20

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]


@pytest.fixture(scope="module")
def described(tmp_path_factory):
    """Yield a gateway with every kind of route and of type."""
    text = (DESCRIBED / "gateway.yaml").read_text().replace("[every.proto]", f"[{DESCRIBED}/every.proto]")
    with Gateway(text, tmp_path_factory.mktemp("described")) as gateway:
        yield gateway


def driven(openapi, url, folder, *words):
    """What schemathesis says of it all, and its exit code: 0 where it found nothing."""
    command = [BIN / "schemathesis", "--config-file", DESCRIBED / "schemathesis.toml", "run", openapi, "--url", url]
    command += ["--max-examples", str(EXAMPLES), "--seed", "1", "--generation-database", ":memory:"]
    command += ["--request-timeout", "10", "--no-color", *words]
    told = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    return told.returncode, told.stdout + told.stderr


def test_schemathesis_finds_nothing_in_routes_of_every_kind(described, tmp_path):
    code, told = driven(described.url("admin", "/openapi.json"), described.url("public"), tmp_path)
    assert 0 == code, told
    assert "No issues found" in told
    assert "Tested: 21" in told


def test_schemathesis_finds_nothing_in_the_shop(own_shop, tmp_path):
    # The feed's `start` is a cursor from an answer.
    words = ["--exclude-operation-id", "feed"]
    code, told = driven(f"{own_shop.admin}/openapi.json", own_shop.rest, tmp_path, *words)
    assert 0 == code, told
    assert "No issues found" in told


def test_what_is_served_is_what_the_command_prints_and_what_openapi_3_1_allows(described):
    with urlopen(described.url("admin", "/openapi.json")) as answer:
        served = json.loads(answer.read())
    OpenAPIV31SpecValidator(served).validate()
    words = [COMMAND, "openapi", "-c", DESCRIBED / "gateway.yaml", "--server", described.url("public")]
    printed = subprocess.run(words, env={**os.environ, "POLYGATE_VAR": "var"}, capture_output=True, text=True, check=True)
    assert served == json.loads(printed.stdout)


@pytest.fixture(scope="module")
def generated(tmp_path_factory):
    """Yield the folder of packages of clients generated from the descriptions that the command prints."""
    folder = tmp_path_factory.mktemp("clients")
    environment = {**os.environ, "POLYGATE_VAR": str(folder), "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}
    for name, config in (("shop", SHOP), ("every", DESCRIBED / "gateway.yaml")):
        printed = subprocess.run([COMMAND, "openapi", config], env=environment, capture_output=True, check=True)
        (folder / f"{name}.json").write_bytes(printed.stdout)
        words = ["generate", "--path", f"{name}.json", "--output-path", f"generated_{name}", "--meta", "none"]
        subprocess.run([BIN / "openapi-python-client", *words], cwd=folder, env=environment, capture_output=True, check=True)
    sys.path.insert(0, str(folder))
    yield folder
    sys.path.remove(str(folder))


def part(name):
    return importlib.import_module(name)


@pytest.fixture
def shop_client(own_shop, generated):
    with part("generated_shop.client").Client(own_shop.rest) as client:
        yield client


@pytest.fixture
def every_client(described, generated):
    with part("generated_every.client").Client(described.url("public")) as client:
        yield client


def test_a_generated_client_places_an_order_and_reads_its_receipt(shop_client):
    model = part("generated_shop.models.shop_v1_place_order_without_customer").ShopV1PlaceOrderWithoutCustomer
    place = part("generated_shop.api.shop_v_1_orders.place_order")
    receipt = place.sync(customer="ada/b c", client=shop_client, body=model(sku="tea", quantity=2))
    assert ("orders.placed", 0) == (receipt.topic, receipt.offset)
    problem = place.sync(customer="ada", client=shop_client, body=model(sku="tea", quantity=0))
    assert ("malformed", ["/quantity"]) == (problem.reason, [error.pointer for error in problem.errors])


def test_a_generated_client_reads_what_a_call_answers(shop_client):
    level = part("generated_shop.api.shop_v_1_stock.stock").sync(sku="tea", client=shop_client)
    assert ("tea", 42) == (level.sku, level.quantity)


def test_a_generated_client_carries_every_kind_of_value_there_and_back(every_client):
    scalars = part("generated_every.api.every_v_1_echo.every_v_1_echo_scalars")
    model = part("generated_every.models.every_v1_scalar_input").EveryV1ScalarInput
    value = {
        "anInt32": -5,
        "anInt64": "9007199254740993",
        "aFloat": 1.5,
        "aDouble": "NaN",
        "aBool": True,
        "aString": "café",
        "someBytes": "AAEC/w==",
        "color": "GREEN",
        "several": ["1", "-2"],
        "colors": ["RED", 77],
    }
    assert value == scalars.sync(client=every_client, body=model.from_dict(value)).to_dict()


def test_a_generated_client_says_fields_in_path_and_query(every_client):
    get = part("generated_every.api.every_v_1_echo.every_v_1_echo_update_2")
    book = get.sync(shelves="a b", books="7", client=every_client, pages=12, author_titles=["x", "y"])
    assert {"name": "shelves/a b/books/7", "author": {"titles": ["x", "y"]}, "pages": 12} == book.to_dict()
