"""The format `csv`."""

from __future__ import annotations

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.codec.csv import FORMAT, MAX_COLUMNS, read
from gateway.errors import CallerError
from tests.contract.codec import SECRET, FormatContract

_texts = st.text(st.characters(exclude_categories=("Cs",)))
_records = st.lists(_texts, min_size=1, max_size=8)


class TestContract(FormatContract):
    form = FORMAT
    values = _records
    refused = (
        b"\xff",
        b'"' + SECRET.encode(),
        b'a"' + SECRET.encode() + b'"',
        b'"a"' + SECRET.encode(),
        b"a\r\n" + SECRET.encode(),
        b"a\r",
        b"," * MAX_COLUMNS,
    )


@given(_records)
def test_it_reads_what_pythons_own_writer_writes(record):
    text = io.StringIO(newline="")
    csv.writer(text).writerow(record)
    assert record == read(text.getvalue().encode())


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        (b"", [""]),
        (b'""', [""]),
        (b"a,b\n", ["a", "b"]),
        (b' a ,"b,""c"""\r\n', [" a ", 'b,"c"']),
        (b'"1\r\n2",,', ["1\r\n2", "", ""]),
    ],
)
def test_one_record_is_a_list_of_texts(body, fields):
    assert fields == read(body)


def test_any_values_are_written_as_fields():
    codec = FORMAT.codec(None)
    assert b'1,true,,1.5,"a,b"' == codec.encode([1, True, None, 1.5, "a,b"])
    assert b"1,x" == codec.encode({"a": 1, "b": "x"})


@pytest.mark.parametrize("value", [[], {}, "a", 1, [[1]], {"a": {"b": 1}}])
def test_what_a_record_cannot_say_is_refused(value):
    with pytest.raises(CallerError, match="cannot be written as CSV"):
        FORMAT.codec(None).encode(value)
