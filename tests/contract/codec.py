r"""What every format promises, whatever it is made of.

Its tests subclass `FormatContract` and say:

    class TestText(FormatContract):
        form = FORMAT                      # what is registered under `gateway.codec`
        values = st.text()                 # plain values in the form that `decode` gives them
        refused = (b"\xff",)               # bodies that are none of the format
        kinds = (None,)                    # the types that it can be had for; None is without one
"""

from __future__ import annotations

import copy
from importlib.metadata import entry_points
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.codec import NOTHING_GIVEN, Format, Type
from gateway.errors import CallerError, Reason
from gateway.transcode import transcode

SECRET = "sesame-open-7261"
"""A word that stands in refused bodies, and in no answer."""


class FormatContract:
    form: ClassVar[Format]
    kinds: ClassVar[tuple[Type | None, ...]] = (None,)
    values: ClassVar[st.SearchStrategy[Any]]
    refused: ClassVar[tuple[bytes, ...]] = ()

    def test_it_is_registered_under_its_name(self):
        (entry,) = entry_points(group="gateway.codec", name=self.form.name)
        assert self.form is entry.load()

    def test_its_content_types_are_bare_and_lower_case(self):
        assert self.form.content_types
        for kind in self.form.content_types:
            assert kind == kind.lower()
            assert ";" not in kind
            assert 1 == kind.count("/")

    def test_without_a_type_it_is_refused_exactly_where_it_means_nothing(self):
        if self.form.typed:
            with pytest.raises(ValueError, match=r"\w"):
                self.form.codec(None)
        else:
            assert self.form.codec(None)

    def test_what_was_encoded_decodes_to_the_same_value(self):
        @given(self.values)
        def holds(value):
            for kind in self.kinds:
                codec = self.form.codec(kind)
                assert value == codec.decode(codec.encode(value))

        holds()

    def test_a_value_has_one_encoding_and_is_left_as_it_was(self):
        @given(self.values)
        def holds(value):
            before = copy.deepcopy(value)
            for kind in self.kinds:
                codec = self.form.codec(kind)
                assert codec.encode(value) == codec.encode(before)
                assert before == value

        holds()

    def test_any_bytes_are_decoded_or_are_malformed_and_nothing_else(self):
        @given(st.binary(max_size=200))
        def holds(body):
            for kind in self.kinds:
                self.read(kind, body)

        holds()

    def test_a_valid_body_with_a_byte_changed_or_an_end_cut_is_decoded_or_malformed(self):
        @given(self.values, st.integers(0, 10_000), st.integers(0, 255))
        def holds(value, at, byte):
            for kind in self.kinds:
                body = self.form.codec(kind).encode(value)
                if body:
                    at %= len(body)
                    self.read(kind, body[:at] + bytes([byte]) + body[at + 1 :])
                    self.read(kind, body[:at])

        holds()

    def test_what_it_decodes_is_encoded_and_decoded_again_as_the_same(self):
        """Whatever comes in goes on: no value that only one of the two functions knows."""

        @given(st.one_of(st.binary(max_size=50), self.values.map(self.form.codec(self.kinds[0]).encode)))
        def holds(body):
            for kind in self.kinds:
                read, value = self.read(kind, body)
                if read:
                    codec = self.form.codec(kind)
                    assert value == codec.decode(codec.encode(value))

        holds()

    def test_what_is_none_of_the_format_is_malformed_and_not_echoed(self):
        for body in self.refused:
            for kind in self.kinds:
                with pytest.raises(CallerError) as caught:
                    self.form.codec(kind).decode(body)
                error = caught.value
                assert Reason.MALFORMED is error.reason, body[:80]
                assert SECRET not in error.message
                assert SECRET not in repr(error.details)
                assert "google.protobuf" not in error.message
                assert "Error" not in error.message

    def test_bytes_of_equal_format_pass_through_unchanged_where_they_are_canonical(self):
        @given(self.values)
        def holds(value):
            for kind in self.kinds:
                body = self.form.codec(kind).encode(value)
                assert body is transcode(self.form, self.form, kind if self.form.typed else None)(body, NOTHING_GIVEN)

        holds()

    def read(self, kind: Type | None, body: bytes) -> tuple[bool, Any]:
        try:
            return True, self.form.codec(kind).decode(body)
        except CallerError as refusal:
            reason = refusal.reason
        assert Reason.MALFORMED is reason
        return False, None
