from __future__ import annotations

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool

from adapters.codec.protobuf import FORMAT
from adapters.contract.proto import Config
from gateway.contract import MisfitError
from gateway.message import Many

HEAD = (
    'syntax = "proto3";\npackage tea;\nimport "google/api/annotations.proto";\nmessage Cup { string name = 1; int32 size = 2; }\n'
)


@pytest.fixture
def compiled(tmp_path):
    """The descriptor set of one file's text, after a head with a message."""

    def compiles(text: str = "", *, name: str = "tea.proto", head: str = HEAD) -> bytes:
        (tmp_path / name).write_text(head + text)
        return Config(proto=name).read(tmp_path, {})

    return compiles


@pytest.fixture
def method(compiled):
    """The one method of a service, by what stands in its braces and how it streams."""

    def methods(options: str = "", signature: str = "(Cup) returns (Cup)"):
        text = f"service Kettle {{\n  rpc Boil{signature} {{\n{options}\n}}\n}}"
        return FORMAT.contracts([compiled(text)]).methods["tea.Kettle/Boil"]

    return methods


def calls(contract) -> list[tuple[str, str, str, str]]:
    return [(one.method, one.path, one.body, one.response_body) for one in contract.http]


def changed(content: bytes, change) -> bytes:
    """The same set with a change made to the file tea.proto."""
    files = FileDescriptorSet.FromString(content)
    change(next(file for file in files.file if file.name == "tea.proto"))
    return files.SerializeToString()


@pytest.mark.parametrize(
    ("signature", "many"),
    [
        ("(Cup) returns (Cup)", Many.NEITHER),
        ("(stream Cup) returns (Cup)", Many.REQUESTS),
        ("(Cup) returns (stream Cup)", Many.REPLIES),
        ("(stream Cup) returns (stream Cup)", Many.BOTH),
    ],
)
def test_a_method_streams_as_it_says(method, signature, many):
    assert many is method(signature=signature).many


def test_a_method_without_side_effects_is_safe(method):
    assert method("option idempotency_level = NO_SIDE_EFFECTS;").safe
    assert not method("option idempotency_level = IDEMPOTENT;").safe


def test_a_method_without_an_annotation_has_no_http_call(method):
    assert () == method().http


@pytest.mark.parametrize("verb", ["get", "put", "post", "delete", "patch"])
def test_an_annotation_gives_a_call_of_its_method(method, verb):
    assert [(verb.upper(), "/cups/{name}", "", "")] == calls(method(f'option (google.api.http) = {{{verb}: "/cups/{{name}}"}};'))


@pytest.mark.parametrize("kind", ["HEAD", "*", "REPORT"])
def test_a_custom_pattern_gives_a_call_of_its_kind(method, kind):
    options = f'option (google.api.http) = {{custom: {{kind: "{kind}" path: "/cups"}} body: "*"}};'
    assert [(kind, "/cups", "*", "")] == calls(method(options))


def test_body_and_response_body_are_those_of_the_annotation(method):
    options = 'option (google.api.http) = {post: "/cups" body: "name" response_body: "size"};'
    assert [("POST", "/cups", "name", "size")] == calls(method(options))


def test_additional_bindings_are_calls_of_their_own(method):
    options = """option (google.api.http) = {
      post: "/cups" body: "*"
      additional_bindings {get: "/cups/{name}"}
      additional_bindings {put: "/v2/cups" body: "name"}
    };"""
    expected = [("POST", "/cups", "*", ""), ("GET", "/cups/{name}", "", ""), ("PUT", "/v2/cups", "name", "")]
    assert expected == calls(method(options))


def test_additional_bindings_inside_of_additional_bindings_cannot_be_served(method):
    options = """option (google.api.http) = {
      post: "/a"
      additional_bindings {post: "/b" additional_bindings {post: "/c"}}
    };"""
    wrong = [one.wrong for one in method(options).http]
    assert ["", "additional_bindings may not stand in additional_bindings"] == wrong


def test_an_annotation_without_a_pattern_cannot_be_served(method):
    assert ["the annotation has no pattern"] == [one.wrong for one in method('option (google.api.http) = {body: "*"};').http]


def test_a_call_tells_where_its_annotation_stands(method, compiled):
    options = 'option deprecated = true;\n    option (google.api.http) = {\n post: "/a"};'
    assert ["tea.proto:8"] == [one.origin for one in method(options).http]
    bare = changed(
        compiled(f"service Kettle {{ rpc Boil(Cup) returns (Cup) {{ {options} }} }}"),
        lambda file: file.ClearField("source_code_info"),
    )
    assert ["tea.proto"] == [one.origin for one in FORMAT.contracts([bare]).methods["tea.Kettle/Boil"].http]


def test_the_same_file_may_stand_in_two_sources(compiled):
    content = compiled("service Kettle { rpc Boil(Cup) returns (Cup); }")
    assert {"tea.Kettle/Boil"} == FORMAT.contracts([content, content]).methods.keys()


@pytest.mark.parametrize(
    "change",
    [
        lambda file: file.ClearField("source_code_info"),
        lambda file: [field.ClearField("json_name") for field in file.message_type[0].field],
    ],
    ids=["comments", "json names that follow"],
)
def test_what_tools_leave_out_makes_no_other_file(compiled, change):
    content = compiled()
    assert FORMAT.contracts([content]).digests == FORMAT.contracts([content, changed(content, change)]).digests


def test_two_files_of_one_name_that_differ_are_told_with_both_sources(compiled):
    content = compiled()
    other = changed(content, lambda file: file.message_type[0].field.pop())
    with pytest.raises(MisfitError, match=r"tea\.proto is not the same as in") as caught:
        FORMAT.contracts([content, other])
    assert (1, 0) == (caught.value.number, caught.value.other)


def test_two_files_that_define_the_same_name_are_told(compiled):
    with pytest.raises(MisfitError, match=r"cup.proto cannot be built: .*tea.Cup") as caught:
        FORMAT.contracts([compiled(), compiled(name="cup.proto")])
    assert 1 == caught.value.number


def test_a_set_need_not_have_googles_files_that_it_imports(compiled):
    files = FileDescriptorSet.FromString(
        compiled('service Kettle { rpc Boil(Cup) returns (Cup) { option (google.api.http) = {get: "/"}; } }')
    )
    del files.file[:-1]
    contracts = FORMAT.contracts([files.SerializeToString()])
    assert [("GET", "/", "", "")] == calls(contracts.methods["tea.Kettle/Boil"])


def test_an_edition_of_googles_own_files_is_nobodys_contradiction(compiled):
    content = compiled()
    files = FileDescriptorSet.FromString(content)
    http = next(file for file in files.file if file.name == "google/api/http.proto")
    http.message_type.add(name="OfANewerEdition")
    assert FORMAT.contracts([content]).digests == FORMAT.contracts([content, files.SerializeToString()]).digests


@pytest.mark.parametrize(
    "name", ["elsewhere.proto", "google/api/no_such.proto", "google/../secret.proto", "google/cloud/x.proto"]
)
def test_an_import_that_nobody_has_is_told(name):
    file = FileDescriptorProto(name="a.proto", dependency=[name])
    with pytest.raises(MisfitError, match=f"{name} is imported and not there"):
        FORMAT.contracts([FileDescriptorSet(file=[file]).SerializeToString()])


def test_files_may_come_in_any_order():
    files = FileDescriptorSet(file=[FileDescriptorProto(name=f"{n}.proto", dependency=[f"{n + 1}.proto"]) for n in range(3000)])
    files.file.add(name="3000.proto")
    assert 3001 == len(FORMAT.contracts([files.SerializeToString()]).digests)


def test_files_that_import_each_other_are_told():
    files = [
        FileDescriptorProto(name="a.proto", dependency=["b.proto"]),
        FileDescriptorProto(name="b.proto", dependency=["a.proto"]),
    ]
    with pytest.raises(MisfitError, match="import each other"):
        FORMAT.contracts([FileDescriptorSet(file=files).SerializeToString()])


def test_all_sources_become_one_set_that_can_be_built_as_it_stands(compiled):
    (content,) = FORMAT.contracts(
        [compiled(), compiled("message Pot {}", name="pot.proto", head='syntax = "proto3"; package pot;')]
    ).files
    pool = DescriptorPool()
    files = FileDescriptorSet.FromString(content).file
    for file in files:
        pool.Add(file)
        assert not file.HasField("source_code_info")
    assert {"tea.proto", "pot.proto"} <= {file.name for file in files}


def test_a_digest_is_of_what_a_file_says_and_not_of_its_comments(compiled):
    plain = FORMAT.contracts([compiled("// A cup.\nmessage Pot {}")]).digests
    assert plain == FORMAT.contracts([compiled("// Another.\nmessage Pot {}")]).digests
    assert plain != FORMAT.contracts([compiled("// A cup.\nmessage Pot { string of = 1; }")]).digests
    assert {"tea.proto"} == plain.keys()
