"""Names and values as URLs and forms write them."""

from __future__ import annotations

from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import CallerError, Reason
from gateway.query import pairs_of

_texts = st.text(st.characters(exclude_categories=("Cs",)))


@given(st.lists(st.tuples(_texts, _texts)))
def test_what_is_written_as_pairs_is_read_as_the_same_pairs(pairs):
    assert tuple(pairs) == pairs_of(urlencode(pairs))


@pytest.mark.parametrize(
    ("text", "pairs"),
    [
        ("", ()),
        ("a", (("a", ""),)),
        ("a=1&&b=2&", (("a", "1"), ("b", "2"))),
        ("a=1;b=2", (("a", "1;b=2"),)),
        ("a+b=%2B+%26=", (("a b", "+ &="),)),
        ("%2561=%C3%A9", (("%61", "é"),)),
    ],
)
def test_only_an_ampersand_parts_them_and_each_is_decoded_once(text, pairs):
    assert pairs == pairs_of(text)


@pytest.mark.parametrize("text", ["%", "a=%2", "a=%zz", "%ff", "a=%c3"])
def test_what_is_malformed_is_refused_by_its_name(text):
    with pytest.raises(CallerError, match=r"^the form ") as caught:
        pairs_of(text, "the form")
    assert Reason.MALFORMED is caught.value.reason
