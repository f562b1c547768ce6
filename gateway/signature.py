"""Signatures of requests that the gateway makes of its own accord: who gets one can tell that it is from us, whole and new.

By Standard Webhooks (https://github.com/standard-webhooks/standard-webhooks, spec/standard-webhooks.md).

    signer = Sign(secret="whsec_...").signer()
    headers = signer(id, body)    # for each try anew: the time is signed too
"""

from __future__ import annotations

import hmac
import time
from base64 import b64decode, b64encode
from binascii import Error
from collections.abc import Callable, Sequence

from pydantic import Field, SecretStr, field_validator

from gateway.part import Part

ID = "webhook-id"
TIMESTAMP = "webhook-timestamp"
SIGNATURE = "webhook-signature"
HEADERS = frozenset({ID, TIMESTAMP, SIGNATURE})

PREFIX = "whsec_"
# The specification asks for 24 to 64 bytes.
MIN_BYTES = 24

Signer = Callable[[str, bytes], Sequence[tuple[str, str]]]
"""signer(id, body): the headers that a request has. The id stays the same however often a request is tried."""


class Sign(Part):
    """Sign requests as Standard Webhooks does: `webhook-id`, `webhook-timestamp` and `webhook-signature`."""

    secret: SecretStr = Field(examples=["${file:/run/secrets/webhook}"])
    """What the receiver knows too: base64 of at least 24 random bytes, with or without `whsec_` before it."""
    retiring: tuple[SecretStr, ...] = Field(default=(), max_length=8)
    """Secrets that a receiver may still have: requests are signed with these too, until all have the new one."""

    @field_validator("secret", "retiring")
    @classmethod
    def _usable(cls, value: SecretStr | tuple[SecretStr, ...]) -> SecretStr | tuple[SecretStr, ...]:
        for secret in value if isinstance(value, tuple) else (value,):
            _key(secret)
        return value

    def signer(self) -> Signer:
        """What signs with these secrets."""
        keys = [_key(secret) for secret in (self.secret, *self.retiring)]

        def signed(id: str, body: bytes) -> Sequence[tuple[str, str]]:  # noqa: A002  the specification's word
            # A dot is what stands between the parts of what is signed, so that none may be in the id.
            known, now = id.replace(".", "~"), str(int(time.time()))
            content = b"%s.%s.%s" % (known.encode(), now.encode(), body)
            made = (b64encode(hmac.digest(key, content, "sha256")).decode() for key in keys)
            return ((ID, known), (TIMESTAMP, now), (SIGNATURE, " ".join(f"v1,{one}" for one in made)))

        return signed


def _key(secret: SecretStr) -> bytes:
    """The bytes of a secret. Raises ValueError, without a word of it."""
    try:
        key = b64decode(secret.get_secret_value().strip().removeprefix(PREFIX), validate=True)
    except (Error, ValueError):
        raise ValueError(
            f"must be base64, with or without {PREFIX} before it, as in {PREFIX} and openssl rand -base64 32"
        ) from None
    if len(key) < MIN_BYTES:
        raise ValueError(f"must be at least {MIN_BYTES} bytes long, as openssl rand -base64 32 makes them")
    return key
