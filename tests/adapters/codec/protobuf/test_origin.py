from __future__ import annotations

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet

from adapters.codec.protobuf.origin import comments, rules
from adapters.contract.proto import Config

TEXT = """syntax = "proto3";
package tea;
import "google/api/annotations.proto";

// What tea is
// drunk from.
message Cup {
  // Who drinks.
  string name = 1;
  int32 size = 2;  // In ml.
  // Where it stands.
  message Saucer {
    // Of what.
    Clay clay = 1;
  }
  oneof handle {
    // None.
    bool bare = 3;
  }
}

// What it is made of.
enum Clay {
  // Nobody knows.
  UNKNOWN = 0;
}

// Boils.
service Kettle {
  // Once.
  rpc Boil(Cup) returns (Cup) {
    option (google.api.http) = {get: "/boil"};
  }
  rpc Whistle(Cup) returns (Cup) {
    option (google.api.http).post = "/whistle";
    option (google.api.http).body = "*";
  }
  rpc Cool(Cup) returns (Cup);
}
"""


@pytest.fixture(scope="module")
def file(tmp_path_factory) -> FileDescriptorProto:
    folder = tmp_path_factory.mktemp("protos")
    (folder / "tea.proto").write_text(TEXT)
    return FileDescriptorSet.FromString(Config(proto="tea.proto").read(folder, {})).file[-1]


def test_a_comment_is_told_by_the_full_name_of_what_it_stands_beside(file):
    assert {
        "tea.Cup": "What tea is\ndrunk from.",
        "tea.Cup.name": "Who drinks.",
        "tea.Cup.size": "In ml.",
        "tea.Cup.Saucer": "Where it stands.",
        "tea.Cup.Saucer.clay": "Of what.",
        "tea.Cup.bare": "None.",
        "tea.Clay": "What it is made of.",
        "tea.Clay.UNKNOWN": "Nobody knows.",
        "tea.Kettle": "Boils.",
        "tea.Kettle.Boil": "Once.",
    } == dict(comments(file))


def test_an_annotation_is_told_by_its_first_line(file):
    assert {"tea.Kettle.Boil": "tea.proto:32", "tea.Kettle.Whistle": "tea.proto:35"} == rules(file)


def test_a_file_without_source_info_tells_nothing(file):
    bare = FileDescriptorProto()
    bare.CopyFrom(file)
    bare.ClearField("source_code_info")
    assert ({}, {}) == (dict(comments(bare)), rules(bare))


def test_source_info_that_leads_nowhere_is_passed_over(file):
    stale = FileDescriptorProto()
    stale.CopyFrom(file)
    del stale.message_type[:]
    del stale.service[:]
    assert {"tea.Clay": "What it is made of.", "tea.Clay.UNKNOWN": "Nobody knows."} == dict(comments(stale))
    assert {} == rules(stale)
