"""What a config file may say, and what it is told where it says something else."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import yamltext
from gateway.source import ConfigError
from gateway.yamltext import read


@pytest.fixture
def written(tmp_path):
    def write(text: str | bytes, name: str = "gateway.yaml") -> Path:
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


def test_every_place_knows_its_line_and_what_is_not_there_has_that_of_its_nearest(written):
    found = read(written("a:\n  - b: 1\n    c:\n      d: 2\n"))
    assert {"a": [{"b": 1, "c": {"d": 2}}]} == found.value
    assert [1, 2, 4, 3] == [found.line(where) for where in (("a",), ("a", 0, "b"), ("a", 0, "c", "d"), ("a", 0, "c", "x", "y"))]


def test_a_file_that_is_not_there_cannot_be_read_and_says_what_writes_one(tmp_path):
    with pytest.raises(ConfigError, match=r"nothing.yaml:1 cannot be read: no such file or directory; `polygate init` writes"):
        read(tmp_path / "nothing.yaml")


def test_a_folder_is_no_config(tmp_path):
    with pytest.raises(ConfigError, match="is a directory"):
        read(tmp_path)


@pytest.mark.parametrize(("text", "told"), [(b"a: \xff\n", "is not UTF-8"), (b"a: \x01\n", "a character that no text file")])
def test_what_is_no_text_is_refused(written, text, told):
    with pytest.raises(ConfigError, match=told):
        read(written(text))


def test_a_byte_order_mark_is_no_part_of_a_config(written):
    assert {"a": 1} == read(written(b"\xef\xbb\xbfa: 1\n")).value


def test_the_environment_is_that_of_the_process_unless_another_is_given(written, monkeypatch):
    monkeypatch.setenv("POLYGATE_TEST", "here")
    path = written("a: ${POLYGATE_TEST:-there}\n")
    assert {"a": "here"} == read(path).value
    assert {"a": "there"} == read(path, {}).value


def test_a_secret_that_is_not_text_is_told(written):
    written(b"\xff", "secret")
    found = read(written("a: ${file:secret}\n"))
    assert ["${file:secret} cannot be read: it is not UTF-8"] == [problem.text for problem in found.problems]


def test_a_secret_loses_its_last_line_end_only(written):
    written("one\ntwo\r\n", "secret")
    assert {"a": "one\ntwo"} == read(written("a: ${file:secret}\n")).value


@pytest.mark.parametrize("opening", ["[", "{a: ", "- "])
def test_nesting_without_end_is_refused_before_it_costs_a_stack(written, opening):
    with pytest.raises(ConfigError, match="nested more than 64 deep"):
        read(written(opening * 200_000))


def test_aliases_of_aliases_are_read_once_each(written):
    lines = ["a0: &a0 [x, x]"] + [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 40)]
    found = read(written("\n".join(lines)))
    assert len(found.lines) < 1000


def test_an_alias_inside_of_itself_is_unknown(written):
    with pytest.raises(ConfigError, match="no anchor &a before"):
        read(written("a: &a [*a]\n"))


def test_a_key_that_is_no_text_is_refused(written):
    with pytest.raises(ConfigError, match="a key is a plain text"):
        read(written("? [a]\n: 1\n"))


def test_a_key_is_text_whatever_it_looks_like(written):
    assert {"on": 1, "1": 2, "null": 3} == read(written("on: 1\n1: 2\nnull: 3\n")).value


def test_a_number_of_absurd_length_stays_text(written):
    assert {"a": "9" * 10_000} == read(written(f"a: {'9' * 10_000}\n")).value


def test_without_libyaml_the_same_is_read(written, monkeypatch):
    text = "a: &x {b: [1, no, 'two']}\nc: *x\nd: |\n  text\n"
    path = written(text)
    fast = read(path)
    monkeypatch.setattr(yamltext, "_LOADER", yamltext.yaml.SafeLoader)
    slow = read(path)
    assert fast.value == slow.value
    assert fast.lines == slow.lines


@given(st.text(max_size=60))
def test_any_text_is_read_or_refused(tmp_path_factory, text):
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_text(text, encoding="utf-8", errors="replace", newline="")
    with suppress(ConfigError):
        read(path, {})
