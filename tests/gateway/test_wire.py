from __future__ import annotations

import pytest

from gateway.codec import MESSAGE
from gateway.message import Many
from gateway.wire import method_wire


def test_a_method_is_called_by_its_path():
    assert ("", "/shop.v1.Orders/Place") == method_wire("grpc").pattern("shop.v1.Orders/Place")


@pytest.mark.parametrize("call", ["", "/shop.v1.Orders/Place", "shop.v1.Orders", "shop.v1.Orders/", "a b/c", "shop..v1/Place"])
def test_what_is_no_method_is_refused_with_what_one_is(call):
    with pytest.raises(ValueError, match=r"package\.Service/Method"):
        method_wire("grpc").pattern(call)


def test_without_a_contract_both_sides_may_stream():
    assert Many.BOTH is method_wire("grpc").shape(None)


def test_what_comes_is_the_message():
    assert MESSAGE is method_wire("connect").rule("")
