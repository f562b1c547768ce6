"""The format `form`."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.codec.form import FORMAT, MAX_FIELDS, read
from gateway.errors import CallerError, Reason
from tests.contract.codec import SECRET, FormatContract

_texts = st.text(st.characters(exclude_categories=("Cs",)))
_pairs = st.lists(st.tuples(_texts, _texts), max_size=20)


def in_parts(pairs, boundary="----WebKitFormBoundary7MA4YWxkTrZu0gW", end="\r\n"):
    """As a browser writes it."""
    parts = []
    for name, text in pairs:
        escaped = name.replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A")
        parts.append(f'--{boundary}\r\nContent-Disposition: form-data; name="{escaped}"\r\n\r\n{text}\r\n')
    return "".join((*parts, f"--{boundary}--{end}")).encode()


class TestContract(FormatContract):
    form = FORMAT
    values = st.dictionaries(_texts, _texts | st.lists(_texts, min_size=2, max_size=4), max_size=8)
    refused = (
        b"\xff",
        b"a=%" + SECRET.encode(),
        b"a=%ff",
        b"a=" + SECRET.encode() + b"\r\n",
        b"a=1&" * (MAX_FIELDS * 3),
        in_parts([("a", SECRET)]).replace(b"; name", b'; filename="x"; name'),
        in_parts([("a", SECRET)]).replace(b"form-data", b"attachment"),
        in_parts([("a", SECRET)])[:-6],
        in_parts([("a", SECRET)]) + SECRET.encode(),
        in_parts([("a", SECRET)]).replace(b"name=", b"nome="),
        in_parts([("a", SECRET)]).replace(b"\r\n\r\n", b"\r\nContent-Transfer-Encoding: base64\r\n\r\n"),
        in_parts([("a", SECRET)]).replace(b"\r\n\r\n", b"\r\nContent-Type: text/plain; charset=utf-16\r\n\r\n"),
        in_parts([("a", SECRET)]).replace(b"\r\n\r\n", b"\r\nContent-Disposition: form-data; name=b\r\n\r\n"),
        in_parts([("a" * 3000, SECRET)]),
        in_parts([("a", "")] * (MAX_FIELDS + 1)),
        in_parts([("a", "\r\n------WebKitFormBoundary7MA4YWxkTrZu0gWx")]),
    )


@given(
    _pairs.filter(lambda pairs: all("%" not in name and "\\" not in name and "\0" not in name for name, _ in pairs)),
    st.sampled_from(["x", "----a b", "'()+_,-./:=?0"]),
)
def test_what_a_browser_sends_in_parts_is_what_it_would_send_urlencoded(pairs, boundary):
    if any(f"--{boundary}" in text for _, text in pairs):
        return
    body = in_parts(pairs, boundary)
    assert tuple(pairs) == read(body)


@pytest.mark.parametrize(
    ("body", "pairs"),
    [
        (b"", ()),
        (b"a=1&b=2&a=3", (("a", "1"), ("b", "2"), ("a", "3"))),
        (b"--a=1", (("--a", "1"),)),
        (b"--x--\r\n", ()),
        (in_parts([("a", "1\r\n2")], end=""), (("a", "1\r\n2"),)),
        (
            b"--x\r\ncontent-disposition: form-data ;name=a\r\nContent-Type: text/plain;charset=UTF-8\r\n\r\n1\r\n--x--",
            (("a", "1"),),
        ),
        (b'--x\r\nContent-Disposition: form-data; name="a\\"b%22"\r\n\r\n\r\n--x--\r\n', (('a"b"', ""),)),
    ],
)
def test_both_ways_to_write_a_form_are_told_apart_by_the_body_alone(body, pairs):
    assert pairs == read(body)


def test_a_field_that_stands_several_times_is_a_list():
    assert {"a": ["1", "3"], "b": "2"} == FORMAT.codec(None).decode(b"a=1&b=2&a=3")


def test_a_file_is_refused_and_why_is_said():
    part = b'Content-Disposition: form-data; name="a"; filename="cat.png"\r\nContent-Type: image/png\r\n\r\n\x89PNG'
    with pytest.raises(CallerError, match="a file in it, and only fields are taken") as caught:
        read(b"--x\r\n" + part + b"\r\n--x--\r\n")
    assert Reason.MALFORMED is caught.value.reason


def test_an_object_is_written_with_dots_and_repetitions():
    value = {"a": {"b": 1, "c": {"d": True}}, "tags": ["x", 2], "none": None, "total": 1.5, "text": "é &"}
    assert b"a.b=1&a.c.d=true&tags=x&tags=2&total=1.5&text=%C3%A9+%26" == FORMAT.codec(None).encode(value)


@pytest.mark.parametrize("value", [[1], "a", {"a": [{"b": 1}]}, {"a": [[1]]}])
def test_what_a_form_cannot_say_is_refused(value):
    with pytest.raises(CallerError, match="cannot be written as a form") as caught:
        FORMAT.codec(None).encode(value)
    assert Reason.MALFORMED is caught.value.reason
