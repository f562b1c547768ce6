"""TLS settings are refused when they are read, not when the first caller comes."""

from __future__ import annotations

import ssl

import pytest
from pydantic import ValidationError

from gateway.tls import BackendTls, ListenerTls


def test_a_backend_without_files_trusts_the_system_and_checks_names():
    context = BackendTls().context()
    assert context.check_hostname
    assert ssl.CERT_REQUIRED == context.verify_mode


def test_a_key_and_its_certificate_go_together(tmp_path):
    file = tmp_path / "x.pem"
    file.write_text("nothing")
    for alone in ({"key": file}, {"certificate": file}):
        with pytest.raises(ValidationError, match="go together"):
            BackendTls.model_validate(alone)


def test_a_file_that_holds_no_certificate_is_refused(tmp_path):
    file = tmp_path / "x.pem"
    file.write_text("nothing")
    with pytest.raises(ValidationError, match="cannot be used"):
        BackendTls.model_validate({"ca": file})
    with pytest.raises(ssl.SSLError):
        ListenerTls.model_validate({"certificate": file, "key": file}).context()
