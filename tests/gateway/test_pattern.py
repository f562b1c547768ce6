"""The template grammar: every line of the spec's "Path templates" that is settled when a config is loaded."""

from __future__ import annotations

from contextlib import suppress
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.pattern import Pattern, PatternError, Segment, Variable, decode, decode_but_slashes, pattern_of

ANY, REST = Segment("any"), Segment("rest")


def lit(text: str) -> Segment:
    return Segment("literal", text)


@pytest.mark.parametrize(
    ("text", "pattern"),
    [
        ("/", Pattern((lit(""),))),
        ("/a", Pattern((lit("a"),))),
        ("/a/*/b", Pattern((lit("a"), ANY, lit("b")))),
        ("/**", Pattern((REST,))),
        ("/a/**:v", Pattern((lit("a"), REST), (), "v")),
        ("/{x}", Pattern((ANY,), (Variable("x", 0, 1),))),
        ("/{x=*}", Pattern((ANY,), (Variable("x", 0, 1),))),
        ("/{x=**}", Pattern((REST,), (Variable("x", 0, None),))),
        ("/{x=a}", Pattern((lit("a"),), (Variable("x", 0, 1),))),
        (
            "/v1/{name=shelves/*/books/*}",
            Pattern((lit("v1"), lit("shelves"), ANY, lit("books"), ANY), (Variable("name", 1, 5),)),
        ),
        ("/v1/{name=files/**}", Pattern((lit("v1"), lit("files"), REST), (Variable("name", 1, None),))),
        ("/{a}/b/{c.d.e=x/*}:go", Pattern((ANY, lit("b"), lit("x"), ANY), (Variable("a", 0, 1), Variable("c.d.e", 2, 4)), "go")),
        ("/a:b", Pattern((lit("a"),), (), "b")),
        ("/a:b:c", Pattern((lit("a:b"),), (), "c")),
        ("/a:b/c", Pattern((lit("a:b"), lit("c")))),
        ("/a%3Ab", Pattern((lit("a:b"),))),
        ("/{n=a:b}", Pattern((lit("a:b"),), (Variable("n", 0, 1),))),
        ("/a%20b/c+d", Pattern((lit("a b"), lit("c+d")))),
        ("/a%2Fb", Pattern((lit("a/b"),))),
        ("/x:%63ancel", Pattern((lit("x"),), (), "cancel")),
    ],
)
def test_a_template_says_its_segments_its_variables_and_its_verb(text, pattern):
    assert pattern == pattern_of(text)


def test_a_variable_of_one_segment_is_told_from_one_of_several():
    singles = {text: pattern_of(text).variables[0].single for text in ("/{x}", "/{x=a}", "/{x=**}", "/{x=a/*}", "/{x=a/**}")}
    assert {"/{x}": True, "/{x=a}": True, "/{x=**}": False, "/{x=a/*}": False, "/{x=a/**}": False} == singles


@pytest.mark.parametrize(
    ("pattern", "why"),
    [
        ("", "starts with /"),
        ("a", "starts with /"),
        ("a/b", "starts with /"),
        ("{x}", "starts with /"),
        ("//", "an empty segment"),
        ("/a//b", "an empty segment"),
        ("/a/", "an empty segment"),
        ("/{x}/", "an empty segment"),
        ("/:v", "an empty segment"),
        ("/a/:v", "an empty segment"),
        ("/{x=/a}", "an empty segment"),
        ("/{x=a/}", "an empty segment"),
        ("/{x=a//b}", "an empty segment"),
        ("/{}", "a variable is written"),
        ("/{1}", "a variable is written"),
        ("/{1a}", "a variable is written"),
        ("/{a-b}", "a variable is written"),
        ("/{a.}", "a variable is written"),
        ("/{.a}", "a variable is written"),
        ("/{a..b}", "a variable is written"),
        ("/{a.1}", "a variable is written"),
        ("/{ a}", "a variable is written"),
        ("/{x=}", "a variable is written"),
        ("/{=a}", "a variable is written"),
        ("/{\u00e9}", "a variable is written"),
        ("/**/a", "must be last"),
        ("/a/**/*", "must be last"),
        ("/a/**/x", "must be last"),
        ("/{a=**}/b", "must be last"),
        ("/{a=**/b}", "must be last"),
        ("/{a=**}/{b=**}", "must be last"),
        ("/a*", "whole segments"),
        ("/*a", "whole segments"),
        ("/***", "whole segments"),
        ("/a:*", "whole segments"),
        ("/{x=a*}", "whole segments"),
        ("/a{x}", "a whole segment"),
        ("/{x}a", "a whole segment"),
        ("/{x}{y}", "a whole segment"),
        ("/{x", "a whole segment"),
        ("/x}", "a whole segment"),
        ("/{x={y}}", "inside another"),
        ("/{x=a/{y}}", "inside another"),
        ("/{a}/{a}", "stands in it twice"),
        ("/{a.b}/{a.b=c/*}", "stands in it twice"),
        ("/a?b", "query string"),
        ("/a?b=c", "query string"),
        ("/a:v?b=c", "query string"),
        ("/a b", "white space"),
        ("/a\t", "white space"),
        ("/a\n", "white space"),
        ("/a: v", "white space"),
        ("/a:", "an empty verb"),
        ("/{a}:", "an empty verb"),
        ("/a/**:", "an empty verb"),
        ("/%", "malformed %-escape"),
        ("/%2", "malformed %-escape"),
        ("/%zz", "malformed %-escape"),
        ("/{x=%zz}", "malformed %-escape"),
        ("/a:%zz", "malformed %-escape"),
        ("/%ff", "not UTF-8"),
        ("/%00", "NUL"),
        ("/\u00e9", "cannot hold"),
        ("/a#b", "cannot hold"),
        ('/"a"', "cannot hold"),
        ("/a\\b", "cannot hold"),
    ],
)
def test_a_pattern_that_cannot_work_is_refused_with_the_reason(pattern, why):
    with pytest.raises(PatternError, match=why) as told:
        pattern_of(pattern)
    assert str(told.value).startswith(repr(pattern))


@pytest.mark.parametrize(
    ("pattern", "given", "path"),
    [
        ("/a/{x}", {"x": "b c"}, "/a/b%20c"),
        ("/a/{x}", {"x": "b/c"}, "/a/b%2Fc"),
        ("/a/{x}", {}, "/a/x"),
        ("/a/*:go", {}, "/a/x:go"),
        ("/a/{x}", {"x": "b:go"}, "/a/b%3Ago"),
        ("/{n=a/*/b/*}", {"n": "a/1/b/2"}, "/a/1/b/2"),
        ("/{n=a/*/b/*}", {"n": "c/1/b/2"}, "/a/n/b/n"),
        ("/{n=a/*/b/*}", {}, "/a/n/b/n"),
        ("/f/{p=**}", {"p": "a/b"}, "/f/a/b"),
        ("/f/{p=**}", {}, "/f/p"),
        ("/f/**", {}, "/f/x"),
    ],
)
def test_a_path_that_a_pattern_takes_is_made_of_what_is_given(pattern, given, path):
    assert path == pattern_of(pattern).path(given.get)


@given(st.text())
def test_any_text_is_a_pattern_or_has_a_reason(text):
    with suppress(PatternError):
        assert pattern_of(text).segments


@given(st.text(min_size=1).filter(lambda text: "\0" not in text and text.isprintable()))
def test_what_is_escaped_is_decoded_whole_or_all_but_its_slashes(text):
    escaped = quote(text, safe="")
    assert text == decode(escaped)
    assert text.replace("/", "%2F") == decode_but_slashes(escaped)
    assert text.replace("/", "%2f") == decode_but_slashes(escaped.replace("%2F", "%2f"))
