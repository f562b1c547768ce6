"""The spec's section "Query and body", line by line, through a running gateway."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from urllib.parse import quote

import pytest
from google.protobuf.message_factory import GetMessageClass

from adapters.codec.protobuf import FORMAT
from tests.spec.contract import descriptor_set
from tests.spec.library import ECHO, EDIT, Library, call, library, route

TWICE, SHELVE = "library.v1.Library/EditTwice", "library.v1.Library/Shelve"
RAW, FREE, NOTHING = "library.v1.Library/Raw", "library.v1.Library/Free", "library.v1.Library/Nothing"
PARTS = ("an_int32", "an_int64", "a_string", "a_bool", "colour", "strings", "labels", "inner", "time", "struct", "value", "left")
ROUTES = "".join(
    (
        route('"GET /q"', '"DELETE /q"'),
        route('"GET /lenient"', '"POST /lenient/{a_string}"', unknown_query="ignore"),
        route('"GET /p/{a_string}"', '"GET /p/{inner.a_string}/in"', '"GET /p/{left}/left"', '"GET /p/{deep.left}/deep"'),
        route('"POST /w"', '"POST /w/{a_string}"', '"POST /w/{inner.a_string}/in"', '"POST /w/{left}/left"'),
        route('"POST /w/{inner.renamed}/renamed"', '"POST /w/{deep.left}/deep"'),
        route(*(call(f"POST /f/{part}", body=part) for part in PARTS)),
        route(call("POST /f/jsonName", body="anInt32"), call("POST /f/{inner.a_string}/in", body="inner")),
        route(call("POST /none", body=""), call("PUT /none/{a_string}", body=""), call("PATCH /none", body="")),
        route(*(call(f"POST /r/{part}", response_body=part) for part in (*PARTS, "raw", "renamed"))),
        route(call("PATCH /{book.name=books/*}", body="book"), call("PATCH /edit", body="book"), method=EDIT),
        route(call("PATCH /all-of-it", body="*"), call("PUT /edit", body="book"), method=EDIT),
        route(call("PATCH /{update_mask}/masked", body="book"), method=EDIT),
        route(call("PATCH /overridden", body="book"), call("DELETE /overridden"), method=EDIT, method_override="true"),
        route(call("POST /overridden", body="*"), method=EDIT),
        route(call("PATCH /twice", body="book"), method=TWICE),
        route(call("PATCH /author", body="author"), method=SHELVE),
        route('"POST /raw"', '"GET /raw"', method=RAW),
        route(call("POST /raw-part/{a_string}", body="raw", response_body="raw")),
        route('"POST /free"', '"GET /free"', method=FREE),
        route('"POST /nothing"', '"GET /nothing"', method=NOTHING),
    )
)
METHODS = FORMAT.contracts([descriptor_set()]).methods
Edit = GetMessageClass(METHODS[EDIT].request.descriptor)


@pytest.fixture(scope="module")
def shelves(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Library]:
    with library(ROUTES, tmp_path_factory.mktemp("library")) as running:
        yield running


def nested(path: str, value: object) -> dict[str, object]:
    """A message in which one field is set."""
    first, _, rest = path.partition(".")
    return {first: nested(rest, value) if rest else value}


# Leaves of the query.


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("", {}),
        ("a_string=x", {"aString": "x"}),
        ("aString=x", {"aString": "x"}),
        ("otherName=x", {"otherName": "x"}),
        ("renamed=x", {"otherName": "x"}),
        ("inner.a_string=x", {"inner": {"aString": "x"}}),
        ("inner.aString=x&inner.inner.an_int32=7", {"inner": {"aString": "x", "inner": {"anInt32": 7}}}),
        ("inner.inner.inner.inner.aBool=true", nested("inner.inner.inner.inner.aBool", True)),
        ("strings=b&strings=a&strings=b", {"strings": ["b", "a", "b"]}),
        ("strings=b&ints=2&strings=a&ints=1", {"strings": ["b", "a"], "ints": [2, 1]}),
        ("inner.strings=b&inner.strings=a", {"inner": {"strings": ["b", "a"]}}),
        ("colours=RED&colours=2", {"colours": ["RED", "GREEN"]}),
        ("a_string=", {}),
        ("maybe=", {"maybe": ""}),
        ("maybe", {"maybe": ""}),
        ("left=&a_string=x", {"aString": "x", "left": ""}),
    ],
)
def test_what_path_and_body_leave_is_for_the_query_by_either_name_dotted_and_repeated_in_order(shelves, query, message):
    assert message == shelves.told("GET", f"/q?{query}")
    assert message == shelves.told("DELETE", f"/q?{query}")


def test_the_query_goes_beside_a_path_and_beside_a_body_that_is_one_field(shelves):
    assert {"aString": "x", "inner": {"aBool": True}} == shelves.told("GET", "/p/x?inner.aBool=true")
    assert {"inner": {"aString": "x", "aBool": True}} == shelves.told("GET", "/p/x/in?inner.aBool=true")
    assert {"anInt32": 7, "aString": "x"} == shelves.told("POST", "/f/an_int32?a_string=x", 7)
    assert {"aString": "y", "left": "x"} == shelves.told("PUT", "/none/y?left=x")


@pytest.mark.parametrize(
    ("name", "pointer"),
    [
        ("many", "/many"),
        ("many.a_string", "/many"),
        ("labels", "/labels"),
        ("labels.key", "/labels"),
        ("labels[key]", "/labels[key]"),
        ("struct", "/struct"),
        ("struct.key", "/struct"),
        ("value", "/value"),
        ("list", "/list"),
        ("any", "/any"),
        ("any.type_url", "/any"),
        ("inner", "/inner"),
        ("inner.many", "/inner/many"),
        ("inner.labels.key", "/inner/labels"),
        ("empty", "/empty"),
    ],
)
def test_messages_repeated_messages_maps_and_structs_cannot_be_said_in_the_query(shelves, name, pointer):
    assert [pointer] == shelves.refused("GET", f"/q?{quote(name, safe='')}=x")


@pytest.mark.parametrize(
    "query", ["nothing=1", "nothing", "inner.nothing=1", "a_string.x=1", "a_strin=1", "A_STRING=1", "=1", ".=1", "a_string.=1"]
)
def test_an_unknown_parameter_is_refused_unless_the_route_ignores_it(shelves, query):
    shelves.refused("GET", f"/q?{query}")
    assert {"anInt32": 7} == shelves.told("GET", f"/lenient?{query}&an_int32=7")


def test_with_the_whole_message_as_body_every_parameter_is_unknown(shelves):
    assert ["/left"] == shelves.refused("POST", "/w/x?left=y", {})
    assert {"aString": "x"} == shelves.told("POST", "/lenient/x?left=y", {})


def test_a_known_field_that_is_wrong_is_refused_though_unknown_ones_are_ignored(shelves):
    assert ["/anInt32"] == shelves.refused("GET", "/lenient?an_int32=x")
    assert ["/labels"] == shelves.refused("GET", "/lenient?labels.x=y")
    assert ["/aString"] == shelves.refused("POST", "/lenient/x?a_string=y", {})


def test_a_field_of_the_body_is_no_parameter(shelves):
    assert ["/inner/a_bool"] == shelves.refused("POST", "/f/inner?inner.a_bool=true", {"aString": "x"})
    assert ["/an_int32"] == shelves.refused("POST", "/f/an_int32?an_int32=7", 8)
    assert ["/an_int32"] == shelves.refused("POST", "/f/an_int32?an_int32=7")


# Types.


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("a_bool=true", {"aBool": True}),
        ("bool_value=false", {"boolValue": False}),
        ("an_int32=010", {"anInt32": 10}),
        ("an_int32=-2147483648", {"anInt32": -2147483648}),
        ("a_uint32=4294967295", {"aUint32": 4294967295}),
        ("an_int64=9223372036854775807", {"anInt64": "9223372036854775807"}),
        ("a_uint64=18446744073709551615", {"aUint64": "18446744073709551615"}),
        ("a_double=1.5e3", {"aDouble": 1500.0}),
        ("a_double=NaN", {"aDouble": "NaN"}),
        ("a_float=-Infinity", {"aFloat": "-Infinity"}),
        ("some_bytes=-_-_", {"someBytes": "+/+/"}),
        ("some_bytes=%2B/%2B/", {"someBytes": "+/+/"}),
        ("some_bytes=YQ", {"someBytes": "YQ=="}),
        ("some_bytes=YQ==", {"someBytes": "YQ=="}),
        ("colour=RED", {"colour": "RED"}),
        ("colour=2", {"colour": "GREEN"}),
        ("colour=7", {"colour": 7}),
        ("time=2026-01-02T03:04:05.006Z", {"time": "2026-01-02T03:04:05.006Z"}),
        ("time=2026-01-02T03:04:05%2B01:00", {"time": "2026-01-02T02:04:05Z"}),
        ("span=1.5s", {"span": "1.500s"}),
        ("mask=a,b.c", {"mask": "a,b.c"}),
        ("mask=givenName,line_two", {"mask": "givenName,lineTwo"}),
        ("int64_value=7", {"int64Value": "7"}),
        ("string_value=", {"stringValue": ""}),
        ("double_value=0", {"doubleValue": 0.0}),
        ("times=2026-01-02T03:04:05Z", {"times": ["2026-01-02T03:04:05Z"]}),
    ],
)
def test_a_parameter_is_read_by_the_type_of_its_field(shelves, query, message):
    assert message == shelves.told("GET", f"/q?{query}")


@pytest.mark.parametrize(
    ("query", "pointer"),
    [
        *((f"a_bool={text}", "/aBool") for text in ("1", "0", "True", "TRUE", "yes", "")),
        *((f"an_int32={text}", "/anInt32") for text in ("1.0", "1e2", "+1", "0x1", "", "2147483648", "-2147483649", "1_0")),
        *((f"a_uint32={text}", "/aUint32") for text in ("-1", "4294967296")),
        ("an_int64=9223372036854775808", "/anInt64"),
        ("a_uint64=18446744073709551616", "/aUint64"),
        ("inner.an_int32=1.0", "/inner/anInt32"),
        ("ints=1&ints=x", "/ints"),
        ("int32_value=1.0", "/int32Value"),
        ("a_double=1e999", "/aDouble"),
        ("a_double=nan", "/aDouble"),
        ("a_float=1e39", "/aFloat"),
        ("some_bytes=*", "/someBytes"),
        ("some_bytes=+/+/", "/someBytes"),
        ("colour=BLUE", "/colour"),
        ("colour=red", "/colour"),
        ("time=2026-01-02T03:04:05+01:00", "/time"),
        ("time=now", "/time"),
        ("span=1.5", "/span"),
        ("mask=a,,b", "/mask"),
    ],
)
def test_a_parameter_that_is_not_strictly_of_its_type_is_400_with_the_fields_path(shelves, query, pointer):
    assert [pointer] == shelves.refused("GET", f"/q?{query}")


def test_a_body_takes_what_the_json_mapping_takes(shelves):
    assert {"anInt32": 100, "anInt64": "1"} == shelves.told("POST", "/w", {"anInt32": 1e2, "anInt64": 1.0})


@pytest.mark.parametrize(
    "query",
    [
        "a_string=x&a_string=y",
        "a_string=x&aString=x",
        "inner.a_bool=true&inner.aBool=true",
        "maybe=&maybe=",
        "time=2026-01-02T03:04:05Z&time=2026-01-02T03:04:05Z",
    ],
)
def test_a_singular_field_given_twice_is_refused(shelves, query):
    assert 1 == len(shelves.refused("GET", f"/q?{query}"))


@pytest.mark.parametrize(
    ("path", "pointer"),
    [
        ("/q?left=x&right=1", "/right"),
        ("/q?right=1&left=x", "/left"),
        ("/q?left=x&deep.a_string=y", "/deep/aString"),
        ("/q?deep.a_string=y&left=x", "/left"),
        ("/q?inner.left=x&inner.right=1", "/inner/right"),
        ("/p/x/left?right=1", "/right"),
        ("/p/x/deep?left=1", "/left"),
        ("/p/x/deep?deep.right=1", "/deep/right"),
    ],
)
def test_two_members_of_a_oneof_are_refused(shelves, path, pointer):
    assert [pointer] == shelves.refused("GET", path)


def test_members_of_different_oneofs_and_fields_of_one_member_may_stand_together(shelves):
    assert {"left": "x", "inner": {"right": 1}} == shelves.told("GET", "/q?left=x&inner.right=1")
    assert {"deep": {"aString": "x", "aBool": True}} == shelves.told("GET", "/q?deep.a_string=x&deep.a_bool=true")


def test_a_body_that_is_one_member_of_a_oneof_refuses_the_others_in_the_query(shelves):
    assert ["/right"] == shelves.refused("POST", "/f/left?right=1", "x")
    assert {"left": "x"} == shelves.told("POST", "/f/left", "x")
    assert {"right": 1} == shelves.told("POST", "/f/left?right=1")


# Bodies.


@pytest.mark.parametrize(
    ("part", "body"),
    [
        ("an_int32", 7),
        ("an_int64", "7"),
        ("a_string", "x"),
        ("a_bool", True),
        ("colour", "RED"),
        ("strings", ["b", "a"]),
        ("labels", {"a": "b"}),
        ("inner", {"aString": "x", "strings": ["y"]}),
        ("time", "2026-01-02T03:04:05Z"),
        ("struct", {"a": [1.0, None]}),
        ("value", [True]),
        ("jsonName", 7),
    ],
)
def test_a_body_may_be_one_field_of_any_kind(shelves, part, body):
    name = {"jsonName": "anInt32"}.get(part) or "".join(word.title() if at else word for at, word in enumerate(part.split("_")))
    assert {name: body} == shelves.told("POST", f"/f/{part}", body)


@pytest.mark.parametrize(
    ("part", "body", "pointer"),
    [
        ("an_int32", "x", "/anInt32"),
        ("an_int32", {"anInt32": 7}, "/anInt32"),
        ("strings", "x", "/strings"),
        ("strings", ["x", 1], "/strings/1"),
        ("strings", ["x", None], "/strings/1"),
        ("labels", {"a": 1}, "/labels/a"),
        ("inner", {"nothing": 1}, "/inner/nothing"),
        ("inner", [], "/inner"),
    ],
)
def test_a_body_that_is_not_of_its_field_is_refused_with_the_path(shelves, part, body, pointer):
    assert [pointer] == shelves.refused("POST", f"/f/{part}", body)


@pytest.mark.parametrize("path", ["/w", "/f/an_int32", "/f/inner", "/f/strings", "/f/labels", "/none"])
def test_a_missing_body_is_an_empty_message(shelves, path):
    assert {} == shelves.told("POST", path)
    assert b"" == shelves.last
    # Many a client says of nothing too what it is.
    assert {} == shelves.told("POST", path, b"", content_type="application/octet-stream")
    assert b"" == shelves.last


def test_null_for_a_body_that_is_one_field_is_an_unset_field(shelves):
    assert {} == shelves.told("POST", "/f/an_int32", b"null")
    assert {} == shelves.told("POST", "/f/inner", b"null")
    assert {"value": None} == shelves.told("POST", "/f/value", b"null")  # of this type null is a value


@pytest.mark.parametrize("body", [b"null", b"[]", b'"x"', b"1"])
def test_a_whole_message_is_an_object(shelves, body):
    assert [""] == shelves.refused("POST", "/w", body)


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/none"), ("PUT", "/none/x"), ("PATCH", "/none"), ("GET", "/q"), ("DELETE", "/q"), ("GET", "/p/x")],
)
@pytest.mark.parametrize("body", [{"aString": "x"}, {}, b" ", b"x"])
def test_a_body_where_the_binding_has_none_is_refused(shelves, method, path, body):
    shelves.refused(method, path, body)


@pytest.mark.parametrize("kind", ["text/plain", "application/xml", "application/x-www-form-urlencoded", "image/png"])
def test_a_body_where_the_binding_has_none_is_refused_whatever_it_says_to_be(shelves, kind):
    shelves.refused("POST", "/none", b"x", content_type=kind)
    assert {} == shelves.told("POST", "/none", content_type=kind)


@pytest.mark.parametrize("kind", ["application/x-protobuf", "application/protobuf"])
def test_a_body_may_be_binary(shelves, kind):
    body = METHODS[ECHO].request.pack({"aString": "x"})
    assert {"aString": "x"} == shelves.told("POST", "/w", body, content_type=kind, accept="application/json")
    for asked in ({"content_type": kind}, {"content_type": kind, "accept": kind}):
        answer = shelves.ask("POST", "/w", body, **asked)
        assert (200, kind, body) == (answer.status, answer.headers["content-type"], answer.body)


@pytest.mark.parametrize(
    ("part", "message", "reply"),
    [
        ("an_int32", {"anInt32": 7}, 7),
        ("an_int64", {"anInt64": "7"}, "7"),
        ("a_string", {"aString": "x"}, "x"),
        ("a_bool", {"aBool": True}, True),
        ("colour", {"colour": "RED"}, "RED"),
        ("strings", {"strings": ["b", "a"]}, ["b", "a"]),
        ("labels", {"labels": {"a": "b"}}, {"a": "b"}),
        ("inner", {"inner": {"aString": "x"}}, {"aString": "x"}),
        ("time", {"time": "2026-01-02T03:04:05Z"}, "2026-01-02T03:04:05Z"),
        ("value", {"value": None}, None),
        ("renamed", {"otherName": "x"}, "x"),
        # Not set: the default.
        ("an_int32", {}, 0),
        ("an_int64", {}, "0"),
        ("a_string", {}, ""),
        ("a_bool", {}, False),
        ("colour", {}, "COLOUR_UNSPECIFIED"),
        ("strings", {}, []),
        ("labels", {}, {}),
        ("inner", {}, {}),
        ("struct", {}, {}),
        ("time", {}, None),
    ],
)
def test_a_response_may_be_one_field_of_the_reply(shelves, part, message, reply):
    assert reply == shelves.told("POST", f"/r/{part}", message)


# Values bound by the path.


@pytest.mark.parametrize(
    ("path", "body", "pointer"),
    [
        ("/w/x", {"aString": "y"}, "/aString"),
        ("/w/x", {"aString": "x"}, "/aString"),
        ("/w/x", {"a_string": "x"}, "/a_string"),
        ("/w/x", {"aString": None}, "/aString"),
        ("/w/x", {"aString": ""}, "/aString"),
        ("/w/x/in", {"inner": {"aString": "y"}}, "/inner/aString"),
        ("/w/x/in", {"inner": {"a_string": "y"}}, "/inner/a_string"),
        ("/w/x/renamed", {"inner": {"renamed": "y"}}, "/inner/renamed"),
        ("/w/x/renamed", {"inner": {"otherName": "y"}}, "/inner/otherName"),
        ("/w/x/left", {"right": 1}, "/right"),
        ("/w/x/left", {"deep": {}}, "/deep"),
        ("/w/x/left", {"left": "x"}, "/left"),
        ("/w/x/deep", {"left": "x"}, "/left"),
        ("/w/x/deep", {"deep": {"right": 1}}, "/deep/right"),
        ("/f/x/in", {"aString": "y"}, "/inner/aString"),
    ],
)
def test_a_value_bound_by_the_path_cannot_be_named_in_the_body_nor_a_sibling_of_its_oneof(shelves, path, body, pointer):
    assert [pointer] == shelves.refused("POST", path, body)


@pytest.mark.parametrize(
    ("path", "pointer"),
    [
        ("/p/x?a_string=y", "/aString"),
        ("/p/x?a_string=x", "/aString"),
        ("/p/x?aString=x", "/aString"),
        ("/p/x/in?inner.a_string=y", "/inner/aString"),
        ("/p/x/left?left=y", "/left"),
        ("/p/x/left?right=1", "/right"),
        ("/p/x/left?deep.a_string=y", "/deep/aString"),
        ("/p/x/deep?deep.left=y", "/deep/left"),
    ],
)
def test_a_value_bound_by_the_path_cannot_be_named_in_the_query_nor_a_sibling_of_its_oneof(shelves, path, pointer):
    assert [pointer] == shelves.refused("GET", path)


def test_what_the_path_binds_joins_what_the_body_says_beside_it(shelves):
    assert {"aString": "x", "anInt32": 7} == shelves.told("POST", "/w/x", {"anInt32": 7})
    assert {"inner": {"aString": "x", "anInt32": 7}} == shelves.told("POST", "/w/x/in", {"inner": {"an_int32": 7}})
    assert {"inner": {"aString": "x", "anInt32": 7}} == shelves.told("POST", "/f/x/in", {"anInt32": 7})
    assert {"inner": {"aString": "x"}} == shelves.told("POST", "/w/x/in", {"inner": None})
    assert {"inner": {"aString": "x"}} == shelves.told("POST", "/f/x/in")
    assert {"deep": {"left": "x", "aBool": True}} == shelves.told("POST", "/w/x/deep", {"deep": {"aBool": True}})
    assert ["/inner"] == shelves.refused("POST", "/w/x/in", {"inner": "x"})


# PATCH.


def mask(shelves: Library) -> list[str]:
    """The paths of the mask that the backend was told, by the names of the .proto."""
    return list(Edit.FromString(shelves.last).update_mask.paths)


@pytest.mark.parametrize(
    ("body", "paths"),
    [
        ({}, []),
        ({"title": "t"}, ["title"]),
        ({"title": ""}, ["title"]),
        ({"pages": 1, "title": "t"}, ["pages", "title"]),
        ({"author": {"givenName": "g"}}, ["author.given_name"]),
        ({"author": {"given_name": "g", "teacher": {"name": "n"}}}, ["author.given_name", "author.teacher.name"]),
        ({"author": {}}, ["author"]),
        ({"tags": ["a"]}, ["tags"]),
        ({"tags": []}, ["tags"]),
        ({"others": [{"name": "n"}]}, ["others"]),
        ({"labels": {"a": "b"}}, ["labels"]),
        ({"extra": {"a": {"b": 1}}}, ["extra"]),
        ({"any": {"@type": "type.googleapis.com/library.v1.Author", "name": "n"}}, ["any"]),
        ({"published": "2026-01-02T03:04:05Z"}, ["published"]),
        ({"paper": "p"}, ["paper"]),
        ({"title": None}, ["title"]),
        ({"author": None}, ["author"]),
        ({"author": {"name": None}}, ["author.name"]),
    ],
)
def test_a_patch_fills_the_mask_from_the_keys_that_are_present(shelves, body, paths):
    shelves.told("PATCH", "/edit", body)
    assert paths == mask(shelves)
    shelves.told("PATCH", "/books/7", body)
    assert paths == mask(shelves)


def test_a_mask_has_the_names_of_the_proto_though_json_cannot_say_them(shelves):
    shelves.ask("PATCH", "/edit", {"line1": "x"})
    assert ["line_1"] == mask(shelves)


def test_a_key_that_is_null_is_named_in_the_mask_and_its_field_is_unset(shelves):
    assert {"book": {"pages": 7}, "updateMask": "title,pages"} == shelves.told("PATCH", "/edit", {"title": None, "pages": 7})


@pytest.mark.parametrize("query", ["update_mask=title,author.given_name", "updateMask=title,author.givenName"])
def test_the_clients_own_mask_wins(shelves, query):
    shelves.told("PATCH", f"/edit?{query}", {"pages": 7})
    assert ["title", "author.given_name"] == mask(shelves)
    shelves.told("PATCH", "/title/masked", {"pages": 7})
    assert ["title"] == mask(shelves)


def test_no_mask_is_made_for_another_method_or_a_whole_body_or_of_two_masks_or_where_there_is_none(shelves):
    assert {"book": {"title": "t"}} == shelves.told("PUT", "/edit", {"title": "t"})
    assert {"book": {"title": "t"}} == shelves.told("PATCH", "/all-of-it", {"book": {"title": "t"}})
    assert {"book": {"title": "t"}} == shelves.told("PATCH", "/twice", {"title": "t"})
    assert {"author": {"name": "n"}} == shelves.told("PATCH", "/author", {"name": "n"})
    assert {} == shelves.told("PATCH", "/edit")


# HttpBody.


@pytest.mark.parametrize("kind", ["image/png", "text/plain", "application/json", "application/octet-stream"])
@pytest.mark.parametrize("data", [b"\x89PNG\0\xff", b"", b'{"not": "parsed"', b"x" * 100_000])
def test_an_http_body_comes_and_goes_as_it_is(shelves, kind, data):
    answer = shelves.ask("POST", "/raw", data, content_type=kind)
    assert (200, data) == (answer.status, answer.body)
    assert kind == answer.headers["content-type"] or not data


@pytest.mark.parametrize("kind", ['multipart/form-data; boundary="a b"', "text/plain; charset=iso-8859-1", "Text/Weird; X=Y"])
def test_an_http_body_has_its_media_type_as_it_came_with_its_parameters(shelves, kind):
    answer = shelves.ask("POST", "/raw", b"\xe9", content_type=kind)
    assert (200, b"\xe9", kind) == (answer.status, answer.body, answer.headers["content-type"])


def test_an_http_body_of_no_told_media_type_has_none(shelves):
    shelves.ask("POST", "/raw-part/x", b"\0", content_type="")
    assert {"aString": "x", "raw": {"data": "AA=="}} == METHODS[ECHO].request.unpack(shelves.last)
    shelves.ask("POST", "/raw-part/x")
    assert not METHODS[ECHO].request.unpack(shelves.last).get("raw")


def test_an_http_body_may_be_one_field_of_request_and_reply_beside_path_and_query(shelves):
    answer = shelves.ask("POST", "/raw-part/x?an_int32=7", b"\0\xff", content_type="image/png")
    assert (200, b"\0\xff", "image/png") == (answer.status, answer.body, answer.headers["content-type"])
    kind = METHODS[ECHO].request
    raw = {"contentType": "image/png", "data": base64.b64encode(b"\0\xff").decode()}
    assert {"aString": "x", "anInt32": 7, "raw": raw} == kind.unpack(shelves.last)


# The query's syntax.


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("a_string=x;left=y", {"aString": "x;left=y"}),
        ("a_string=x&&left=y&", {"aString": "x", "left": "y"}),
        ("a_string=x=y", {"aString": "x=y"}),
        ("a_string=x%26left=y", {"aString": "x&left=y"}),
        ("a%5Fstring=x", {"aString": "x"}),
        ("inner%2Ea_string=x", {"inner": {"aString": "x"}}),
        ("inner%2ea%5fstring=x", {"inner": {"aString": "x"}}),
        ("a_string=%2523", {"aString": "%23"}),
        ("a_string=a+b%2Bc%20d", {"aString": "a b+c d"}),
        ("a_string=%C3%A9", {"aString": "\u00e9"}),
        ("a_string=?/:@", {"aString": "?/:@"}),
    ],
)
def test_parameters_are_parted_by_ampersands_only_and_keys_decoded_before_they_are_split_at_dots(shelves, query, message):
    assert message == shelves.told("GET", f"/q?{query}")


@pytest.mark.parametrize("query", ["a_string=%", "a_string=%zz", "a_string=%ff", "%zz=1", "a_string=%ed%a0%80"])
def test_a_malformed_escape_in_the_query_is_400(shelves, query):
    assert [] == shelves.refused("GET", f"/q?{query}")


def test_a_name_of_many_dots_is_refused(shelves):
    shelves.refused("GET", "/q?" + "inner." * 5_000 + "a_string=x")
    shelves.refused("GET", "/q?" + "." * 50_000 + "=x")


# Types that are no object of their fields.


def test_a_type_with_a_json_form_of_its_own_is_the_whole_body(shelves):
    assert {"a": [1.0]} == shelves.told("POST", "/free", {"a": [1]})
    assert {} == shelves.told("POST", "/free")
    assert {} == shelves.told("GET", "/free")
    assert ["/a"] == shelves.refused("GET", "/free?a=1")
    assert {} == shelves.told("POST", "/nothing", {})
    assert {} == shelves.told("GET", "/nothing")
    assert ["/a"] == shelves.refused("GET", "/nothing?a=1")


# Methods.


def test_a_method_without_a_binding_is_not_reachable_by_its_grpc_path(shelves):
    assert 404 == shelves.ask("POST", "/library.v1.Library/Echo", {}).status


def test_a_method_override_does_nothing_unless_the_route_allows_it(shelves):
    answer = shelves.ask("POST", "/edit", {"title": "t"}, x_http_method_override="PATCH")
    assert 405 == answer.status
    assert {"aString": "x"} == shelves.told("POST", "/w", {"aString": "x"}, x_http_method_override="DELETE")


def test_a_route_that_allows_it_takes_a_post_for_the_method_that_its_header_says(shelves):
    title, whole = {"title": "t"}, {"shelf": "s"}
    assert {"book": title, "updateMask": "title"} == shelves.told("POST", "/overridden", title, x_http_method_override="PATCH")
    assert {} == shelves.told("POST", "/overridden", x_http_method_override="DELETE")
    assert whole == shelves.told("POST", "/overridden", whole)
    for other in ("PUT", "patch", "GET", "HEAD", "OPTIONS", "FETCH", ""):
        assert whole == shelves.told("POST", "/overridden", whole, x_http_method_override=other)
    assert 405 == shelves.ask("PUT", "/overridden", title, x_http_method_override="PATCH").status
