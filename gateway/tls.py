"""TLS as a config says it: what a listener shows its callers, and how a backend is known. Files are PEM."""

from __future__ import annotations

import ssl
from typing import Self

from pydantic import Field, FilePath, model_validator

from gateway.part import Part


class ListenerTls(Part):
    """What a listener shows its callers, and asks of them. TLS 1.2 or newer."""

    certificate: FilePath = Field(examples=["/run/secrets/tls.crt"])
    """The certificate, then its chain."""
    key: FilePath = Field(examples=["/run/secrets/tls.key"])
    """Its private key."""
    client_ca: FilePath | None = None
    """Who signs the certificates that callers must show. Without it they need none."""

    def context(self) -> ssl.SSLContext:
        """The server's side. Raises OSError (ssl.SSLError is one) for a file that is not what it should be."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(self.certificate, self.key)
        if self.client_ca is not None:
            context.load_verify_locations(self.client_ca)
            context.verify_mode = ssl.CERT_REQUIRED
        return context


class BackendTls(Part):
    """How a backend is known, and how we are known to it. Its name is always checked against its certificate."""

    ca: FilePath | None = Field(default=None, examples=["/run/secrets/ca.pem"])
    """Who may have signed its certificate; the system's own list unless told."""
    certificate: FilePath | None = None
    """Our own certificate chain, where it asks for one."""
    key: FilePath | None = None
    """Its private key."""

    @model_validator(mode="after")
    def _works(self) -> Self:
        if (self.key is None) != (self.certificate is None):
            raise ValueError("certificate and key go together")
        try:
            self.context()
        except OSError as error:
            raise ValueError(f"a file of tls cannot be used: {error.strerror or error}") from error
        return self

    def context(self) -> ssl.SSLContext:
        """The client's side. Raises OSError (ssl.SSLError is one) for a file that is not what it should be."""
        context = ssl.create_default_context(cafile=self.ca)
        if self.certificate is not None:
            context.load_cert_chain(self.certificate, self.key)
        return context
