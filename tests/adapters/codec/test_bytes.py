"""The opaque format."""

from __future__ import annotations

from hypothesis import strategies as st

from adapters.codec.bytes import FORMAT
from tests.contract.codec import FormatContract


class TestContract(FormatContract):
    form = FORMAT
    values = st.binary()


def test_nothing_looks_inside():
    assert FORMAT.opaque
    assert b"\xff\x00{" == FORMAT.codec(None).decode(b"\xff\x00{")
