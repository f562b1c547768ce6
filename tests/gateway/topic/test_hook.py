"""Which URLs are called back."""

from __future__ import annotations

import pytest

from gateway.errors import CallerError, Reason
from gateway.topic.hook import MAX_URL, CallbackConfig, path_of

HOOKS, OTHER = object(), object()
POSTS = {"https://hooks.example.com/in/": HOOKS, "https://other.example.com:8443/": OTHER}
SECRET = "whsec_" + "QUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFB"


@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("https://hooks.example.com/in/a", (HOOKS, "a")),
        ("https://hooks.example.com/in/a/b%20c", (HOOKS, "a/b c")),
        ("HTTPS://Hooks.Example.COM/in/a", (HOOKS, "a")),
        ("https://other.example.com:8443/x", (OTHER, "x")),
    ],
)
def test_a_path_below_a_configured_url_is_allowed(url, found):
    assert found == path_of(POSTS, url)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "a",
        "http://hooks.example.com/in/a",
        "https://hooks.example.com/in/",
        "https://hooks.example.com/in",
        "https://hooks.example.com/inside",
        "https://hooks.example.com/IN/a",
        "https://hooks.example.com.evil.example/in/a",
        "https://hooks.example.com@evil.example/in/a",
        "https://evil.example/https://hooks.example.com/in/a",
        "https://user@hooks.example.com/in/a",
        "https://hooks.example.com:443/in/a",
        "https://hooks.example.com/in/../a",
        "https://hooks.example.com/in/%2e%2e/a",
        "https://hooks.example.com/in/.",
        "https://hooks.example.com/in/a%2Fb",
        "https://hooks.example.com/in/a%2fb",
        "https://hooks.example.com/in//a",
        "https://hooks.example.com/in/a/",
        "https://hooks.example.com/in/a?b=c",
        "https://hooks.example.com/in/a?",
        "https://hooks.example.com/in/a#b",
        "https://hooks.example.com/in/a b",
        "https://hooks.example.com/in/a\nb",
        "https://hooks.example.com/in/a\r\nx: y",
        "https://hooks.example.com/in/%ff",
        "https://hooks.example.com/in/%zz",
        "https://hooks.example.com/in/ä",
        "https://hooks.example.com\\@evil.example/in/a",
        "https://[/in/a",
        "https://hooks.example.com/in/" + "a" * MAX_URL,
    ],
)
def test_no_other_url_is(url):
    with pytest.raises(CallerError) as caught:
        path_of(POSTS, url)
    assert Reason.INVALID is caught.value.reason
    assert "example" not in caught.value.message


def test_callbacks_are_always_signed():
    with pytest.raises(ValueError, match="sign"):
        CallbackConfig(backends=["hooks"])
    assert not CallbackConfig(backends=["hooks"], sign={"secret": SECRET}).plain
