"""TLS towards a server that is asked by HTTP."""

from __future__ import annotations

import ssl

from gateway.tls import BackendTls


class Tls(BackendTls):
    """How an https server is known, and how we are known to it."""

    verify: bool = True
    """False takes any certificate: for tests alone."""

    def context(self) -> ssl.SSLContext:
        context = super().context()
        if not self.verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context
