"""The format of one UTF-8 string a message."""

from __future__ import annotations

import pytest
from hypothesis import strategies as st

from adapters.codec.text import FORMAT
from tests.contract.codec import SECRET, FormatContract

TEXT = st.text(st.characters(codec="utf-8"))


class TestContract(FormatContract):
    form = FORMAT
    values = TEXT
    refused = (b"\xff", SECRET.encode() + b"\xc3", b"\xed\xa0\x80", b"\xc0\xaf")


@pytest.mark.parametrize(
    ("value", "written"), [(42, b"42"), (None, b"null"), ({"a": "é"}, '{"a":"é"}'.encode()), ("é", "é".encode())]
)
def test_what_is_no_string_is_written_as_json(value, written):
    assert written == FORMAT.codec(None).encode(value)


def test_it_cannot_carry_the_messages_of_a_contract():
    class Kind:
        name = "shop.v1.Order"

    with pytest.raises(ValueError, match="contract"):
        FORMAT.codec(Kind())
