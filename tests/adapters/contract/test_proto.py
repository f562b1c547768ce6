"""protoc itself compiles; what is proved here is which files it is given, and how its words come out."""

from __future__ import annotations

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorSet

from adapters.contract import proto
from adapters.contract.proto import Config
from gateway.contract import ContractError

TEA = 'syntax = "proto3"; package shop.v1; message Tea { string name = 1; }'
CUP = 'syntax = "proto3"; package shop.v1; import "shop/v1/tea.proto"; message Cup { Tea tea = 1; }'


@pytest.fixture
def write(tmp_path):
    def writes(name: str, text: str) -> None:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    return writes


def names(content: bytes) -> set[str]:
    return {file.name for file in FileDescriptorSet.FromString(content).file}


def problems(config: Config, folder) -> tuple[str, ...]:
    with pytest.raises(ContractError) as caught:
        config.read(folder, {})
    return caught.value.problems


def test_a_folder_is_every_proto_in_it_and_where_imports_start(tmp_path, write):
    write("protos/shop/v1/tea.proto", TEA)
    write("protos/shop/v1/cup.proto", CUP)
    assert {"shop/v1/tea.proto", "shop/v1/cup.proto"} == names(Config(proto="protos").read(tmp_path, {}))


def test_the_imports_of_one_file_start_above_the_folders_of_its_package(tmp_path, write):
    write("protos/shop/v1/tea.proto", TEA)
    write("protos/shop/v1/cup.proto", CUP)
    assert {"shop/v1/tea.proto", "shop/v1/cup.proto"} == names(Config(proto="protos/shop/v1/cup.proto").read(tmp_path, {}))


def test_a_file_that_is_not_where_its_package_says_has_its_own_folder_as_root(tmp_path, write):
    write("tea.proto", TEA)
    assert {"tea.proto"} == names(Config(proto="tea.proto").read(tmp_path, {}))


def test_imports_may_start_from_further_roots(tmp_path, write):
    write("vendor/shop/v1/tea.proto", TEA)
    write("own/cup.proto", CUP)
    config = Config(proto="own", roots=("vendor",))
    assert {"shop/v1/tea.proto", "cup.proto"} == names(config.read(tmp_path, {}))


def test_googles_own_files_are_there_though_nobody_has_a_copy(tmp_path, write):
    imported = [
        "google/api/annotations.proto",
        "google/api/field_behavior.proto",
        "google/api/httpbody.proto",
        "google/protobuf/struct.proto",
        "google/protobuf/timestamp.proto",
        "google/rpc/status.proto",
        "google/type/money.proto",
    ]
    write("a.proto", 'syntax = "proto3";' + "".join(f'import "{name}";' for name in imported))
    assert {"a.proto", *imported} <= names(Config(proto="a.proto").read(tmp_path, {}))


def test_a_copy_of_googles_files_among_ones_own_is_taken_before_ours(tmp_path, write):
    write("protos/google/type/money.proto", 'syntax = "proto3"; package google.type; message Money { string mine = 1; }')
    write("protos/a.proto", 'syntax = "proto3"; import "google/type/money.proto"; message A { google.type.Money money = 1; }')
    (money,) = (
        file
        for file in FileDescriptorSet.FromString(Config(proto="protos").read(tmp_path, {})).file
        if file.name == "google/type/money.proto"
    )
    assert ["mine"] == [field.name for field in money.message_type[0].field]


def test_what_is_wrong_is_told_with_file_and_line(tmp_path, write):
    write(
        "protos/shop/v1/tea.proto", 'syntax = "proto3";\npackage shop.v1;\n\nmessage Tea {\n  Leaf leaf = 1;\n  Pot pot = 2;\n}\n'
    )
    assert (
        'protos/shop/v1/tea.proto:5 "Leaf" is not defined.',
        'protos/shop/v1/tea.proto:6 "Pot" is not defined.',
    ) == problems(Config(proto="protos"), tmp_path)


def test_a_syntax_error_is_told_with_file_and_line(tmp_path, write):
    write("tea.proto", 'syntax = "proto3";\nmessage {')
    assert ("tea.proto:2 Expected message name.",) == problems(Config(proto="tea.proto"), tmp_path)[:1]


def test_an_import_that_is_nowhere_is_told(tmp_path, write):
    write("cup.proto", CUP)
    told = problems(Config(proto="cup.proto"), tmp_path)
    assert any("shop/v1/tea.proto" in one and "not found" in one.lower() for one in told)


def test_a_warning_is_no_problem(tmp_path, write):
    write("shop/v1/tea.proto", TEA)
    write("a.proto", 'syntax = "proto3"; import "shop/v1/tea.proto";')
    assert "a.proto" in names(Config(proto="a.proto").read(tmp_path, {}))


def test_many_problems_are_told_in_part_and_counted(tmp_path, write):
    fields = "\n".join(f"  Leaf leaf{n} = {n};" for n in range(1, 31))
    write("tea.proto", f'syntax = "proto3";\nmessage Tea {{\n{fields}\n}}')
    told = problems(Config(proto="tea.proto"), tmp_path)
    assert (proto.SHOWN + 1, "and 20 more problems of the same files") == (len(told), told[-1])


@pytest.mark.parametrize(
    ("config", "text"),
    [
        (
            Config(proto="missing.proto"),
            "missing.proto cannot be read (no such file or directory); it is looked for beside this file",
        ),
        (Config(proto="empty"), "there is no .proto in empty"),
        (Config(proto="tea.proto", roots=("vendor",)), "the root vendor is no folder; it is looked for beside this file"),
    ],
)
def test_what_is_not_there_is_told(tmp_path, write, config, text):
    write("tea.proto", TEA)
    (tmp_path / "empty").mkdir()
    assert (text,) == problems(config, tmp_path)


def test_bytes_that_are_no_text_are_protocs_to_refuse(tmp_path):
    (tmp_path / "tea.proto").write_bytes(b'syntax = "proto3";\n\xff\xfe')
    assert all(one.startswith("tea.proto:2 ") for one in problems(Config(proto="tea.proto"), tmp_path))


def test_protoc_has_so_long_and_no_longer(tmp_path, write, monkeypatch):
    write("tea.proto", TEA)
    monkeypatch.setattr(proto, "COMPILE_S", 0.001)
    assert ("protoc was not done within 0.001 s",) == problems(Config(proto="tea.proto"), tmp_path)


def test_more_files_than_a_contract_has_are_refused(tmp_path, write, monkeypatch):
    monkeypatch.setattr(proto, "MAX_FILES", 1)
    write("protos/a.proto", TEA)
    write("protos/b.proto", TEA)
    assert ("protos has 2 .proto files, more than 1",) == problems(Config(proto="protos"), tmp_path)


def test_a_path_with_spaces_is_one_path(tmp_path, write):
    write("my protos/tea leaves.proto", TEA)
    assert {"tea leaves.proto"} == names(Config(proto="my protos").read(tmp_path, {}))
