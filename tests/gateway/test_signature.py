"""Requests that a receiver can know for ours, by the published rules and their published example."""

from __future__ import annotations

import hmac
import time
from base64 import b64decode, b64encode

import pytest
from pydantic import ValidationError

from gateway.signature import HEADERS, Sign

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
OTHER = b64encode(b"another secret of so many bytes").decode()


def verified(headers, body, secret):
    """What a receiver does: the id, where the signature is right."""
    said = dict(headers)
    content = b"%s.%s.%s" % (said["webhook-id"].encode(), said["webhook-timestamp"].encode(), body)
    key = b64decode(secret.removeprefix("whsec_"))
    right = "v1," + b64encode(hmac.digest(key, content, "sha256")).decode()
    assert right in said["webhook-signature"].split(" ")
    return said["webhook-id"]


def test_the_published_example_is_signed_as_published(monkeypatch):
    monkeypatch.setattr(time, "time", lambda: 1614265330.9)
    assert [
        ("webhook-id", "msg_p5jXN8AQM9LWM0D4loKWxJek"),
        ("webhook-timestamp", "1614265330"),
        ("webhook-signature", "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="),
    ] == list(Sign(secret=SECRET).signer()("msg_p5jXN8AQM9LWM0D4loKWxJek", b'{"test": 2432232314}'))


def test_while_a_secret_retires_receivers_with_either_one_know_the_request():
    headers = Sign(secret=OTHER, retiring=(SECRET,)).signer()("a", b"body")
    assert {"a"} == {verified(headers, b"body", secret) for secret in (OTHER, SECRET)}
    assert HEADERS == {name for name, _ in headers}


def test_an_id_holds_no_dot_for_that_stands_between_what_is_signed():
    headers = Sign(secret=SECRET).signer()("orders.placed/0/7", b"")
    assert "orders~placed/0/7" == verified(headers, b"", SECRET)


@pytest.mark.parametrize("secret", ["", "whsec_", "not base64!", "whsec_c2hvcnQ="])
def test_a_secret_that_is_none_is_refused_without_being_told(secret):
    for settings in ({"secret": secret}, {"secret": SECRET, "retiring": (secret,)}):
        with pytest.raises(ValidationError, match="must be") as caught:
            Sign(**settings)
        assert "c2hvcnQ" not in "".join(error["msg"] for error in caught.value.errors())


def test_a_secret_is_not_shown():
    assert SECRET not in repr(Sign(secret=SECRET))
