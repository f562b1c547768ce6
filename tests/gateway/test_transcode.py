"""The translations compiled from two formats and a type, with plain ones of the test's own."""

from __future__ import annotations

import json

import pytest

from gateway.codec import MESSAGE, NOTHING_GIVEN, Given, JsonOptions, Rule
from gateway.errors import CallerError, FieldError, Reason
from gateway.transcode import merge, transcode, untyped, upload


class Order:
    """A type with one field, whose canonical form is a number; a text of digits is taken too, and an empty message."""

    name = "Order"
    fields = ("n",)
    binary = True

    def pack_json(self, body):
        return self.pack(json.loads(body))

    def unpack_json(self, body):
        return JsonCodec.encode(self.unpack(body))

    def bind(self, rule):
        return untyped(rule)

    @property
    def part(self):
        return self

    def under(self, options):
        assert JsonOptions() == options
        return self

    def check(self, value):
        if not isinstance(value, dict) or not value.keys() <= {"n", "customer"}:
            raise CallerError(Reason.MALFORMED, "not an order")
        return {**value, **({"n": int(value["n"])} if "n" in value else {})}

    def pack(self, value):
        return repr(sorted(self.check(value).items())).encode()

    def unpack(self, body):
        return dict(eval(body or b"[]"))


class Signed(Order):
    """One that must say a customer."""

    part = Order()

    def check(self, value):
        if not value.get("customer"):
            raise CallerError(Reason.MALFORMED, "customer is required")
        return super().check(value)

    def unpack(self, body):
        return self.check(super().unpack(body))


class Picture(Order):
    def check(self, value):
        return value


class JsonCodec:
    decode = staticmethod(json.loads)

    @staticmethod
    def encode(value):
        return json.dumps(value, separators=(",", ":")).encode()


class PlainFormat:
    name = "json"
    content_types = ("application/json",)
    typed = False
    opaque = False
    pairs = None

    def codec(self, _kind):
        return JsonCodec


class PackedFormat:
    """Typed: a literal of Python."""

    name = "packed"
    content_types = ("application/x-packed",)
    typed = True
    opaque = False
    pairs = None

    def codec(self, kind):
        if kind is None:
            raise ValueError("packed needs a type")

        class Codec:
            decode = staticmethod(kind.unpack)
            encode = staticmethod(kind.pack)

        return Codec


class OpaqueFormat(PlainFormat):
    name = "bytes"
    opaque = True


PLAIN, PACKED, OPAQUE, ORDER, SIGNED = PlainFormat(), PackedFormat(), OpaqueFormat(), Order(), Signed()
PACKED_7 = b"[('n', 7)]"


def test_with_equal_formats_the_bytes_that_came_in_go_out_once_they_were_read():
    through = transcode(PLAIN, PLAIN, None)
    body = b'{ "n" : 7 }'
    assert body is through(body, NOTHING_GIVEN)
    with pytest.raises(ValueError, match="Expecting"):
        through(b"{", NOTHING_GIVEN)


def test_a_type_is_checked_and_what_says_it_otherwise_is_written_anew():
    through = transcode(PLAIN, PLAIN, ORDER)
    body = b'{ "n" : 7 }'
    assert body is through(body, NOTHING_GIVEN)
    assert b'{"n":7}' == through(b'{"n": "7"}', NOTHING_GIVEN)
    with pytest.raises(CallerError, match="not an order"):
        through(b'{"m": 7}', NOTHING_GIVEN)


def test_between_formats_the_value_is_the_same():
    assert PACKED_7 == transcode(PLAIN, PACKED, ORDER)(b'{"n": "7"}', NOTHING_GIVEN)
    assert b'{"n":7}' == transcode(PACKED, PLAIN, ORDER)(PACKED_7, NOTHING_GIVEN)
    assert PACKED_7 == transcode(PACKED, PACKED, ORDER)(PACKED_7, NOTHING_GIVEN)


def test_a_typed_format_without_a_type_is_refused_when_compiled():
    with pytest.raises(ValueError, match="needs a type"):
        transcode(PLAIN, PACKED, None)


def test_opaque_bytes_are_never_opened():
    body = b"\xff{"
    for source, target in ((OPAQUE, PLAIN), (PLAIN, OPAQUE)):
        assert body is transcode(source, target, None, MESSAGE)(body, Given({"a": "1"}))


def test_fields_of_the_path_are_merged_where_there_are_any():
    merged = transcode(PLAIN, PLAIN, ORDER, MESSAGE)
    body = b'{ "n" : 7 }'
    assert body is merged(body, NOTHING_GIVEN)
    assert b'{"customer":"ada","n":7}' == merged(body, Given({"customer": "ada"}))
    assert b'{"n":8}' == merged(b"", Given({"n": "8"}))
    assert b"{}" == merged(b"", NOTHING_GIVEN)
    assert b"[('customer', 'ada'), ('n', 7)]" == transcode(PLAIN, PACKED, ORDER, MESSAGE)(body, Given({"customer": "ada"}))
    assert b'{"a":"1"}' == transcode(PLAIN, PLAIN, None, MESSAGE)(b"{}", Given({"a": "1"}))


@pytest.mark.parametrize("target", [PLAIN, PACKED], ids=["plain", "packed"])
def test_what_a_typed_body_lacks_may_come_by_the_path_and_the_whole_is_checked(target):
    merged = transcode(PACKED, target, SIGNED, MESSAGE)
    for body, fields in ((PACKED_7, {"customer": "ada"}), (b"[('customer', 'ada')]", {"n": "7"})):
        assert {"customer": "ada", "n": 7} == dict(target.codec(ORDER).decode(merged(body, Given(fields))))
    with pytest.raises(CallerError, match="customer is required"):
        merged(PACKED_7, Given({"n": "7"}))


@pytest.mark.parametrize("target", [PLAIN, PACKED], ids=["plain", "packed"])
@pytest.mark.parametrize("fields", [NOTHING_GIVEN, Given({"n": "7"})], ids=["alone", "merged"])
def test_a_typed_message_of_no_bytes_is_checked_as_any(target, fields):
    with pytest.raises(CallerError, match="customer is required"):
        transcode(PACKED, target, SIGNED, MESSAGE)(b"", fields)


def test_a_path_variable_cannot_be_said_otherwise():
    assert {"n": "7"} == merge({"n": 7}, {"n": "7"})
    assert {"n": "7", "m": 1} == merge({"n": "7", "m": 1}, {"n": "7"})
    with pytest.raises(CallerError) as raised:
        merge({"n": 8}, {"n": "7"})
    assert (FieldError("/n", "is set by the path"),) == raised.value.details


@pytest.mark.parametrize("value", [[], "a", 1, None])
def test_what_is_no_object_takes_no_fields(value):
    with pytest.raises(CallerError, match="must be a JSON object"):
        merge(value, {"n": "7"})


def test_a_call_without_a_body_has_its_fields_from_path_and_query():
    asked = transcode(PLAIN, PLAIN, None, Rule(body=""))
    assert b'{"a":"1","n":"7"}' == asked(b"", Given({"a": "1"}, (("n", "7"),)))
    assert b"{}" == asked(b"", NOTHING_GIVEN)
    with pytest.raises(CallerError, match="given twice"):
        asked(b"", Given({"n": "1"}, (("n", "7"),)))
    with pytest.raises(CallerError, match="has no body"):
        asked(b"{}", NOTHING_GIVEN)


def test_a_body_that_is_one_field_stands_beside_path_and_query():
    asked = transcode(PLAIN, PLAIN, None, Rule(body="order"))
    assert b'{"n":"7","order":{"a":1}}' == asked(b'{"a":1}', Given({"n": "7"}))


def test_nothing_is_no_message_where_no_type_says_what_that_is():
    with pytest.raises(ValueError, match="Expecting"):
        transcode(PLAIN, PLAIN, None, Rule())(b"", Given({}, (("n", "7"),)))


def test_bytes_of_any_media_type_are_uploaded_with_its_name():
    uploaded = upload(PLAIN, Picture(), Rule())("image/png")
    assert b'{"contentType":"image/png","data":"iVBORw=="}' == uploaded(b"\x89PNG", NOTHING_GIVEN)
