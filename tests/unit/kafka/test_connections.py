from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
import trustme
from cryptography.hazmat.primitives import serialization

from anabranch.errors import UsageError
from anabranch.kafka.connections import tls_context
from anabranch.settings import Secret, Settings


@pytest.fixture
def locked(tmp_path: Path) -> Settings:
    """A client's certificate whose key is locked by the password `hush`."""
    issued = trustme.CA().issue_cert("client@anabranch.test")
    key = serialization.load_pem_private_key(issued.private_key_pem.bytes(), None).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"hush")
    )
    (tmp_path / "key.pem").write_bytes(key)
    issued.cert_chain_pems[0].write_to_path(tmp_path / "client.pem")
    return Settings(
        security_protocol="SSL",
        ssl_certfile=tmp_path / "client.pem",
        ssl_keyfile=tmp_path / "key.pem",
        ssl_key_password=Secret("hush"),
    )


@pytest.mark.parametrize("protocol", ["PLAINTEXT", "SASL_PLAINTEXT"])
def test_without_tls_there_is_no_context(protocol: str) -> None:
    assert tls_context(Settings(security_protocol=protocol)) is None


def test_a_locked_key_opens_with_its_password(locked: Settings) -> None:
    assert tls_context(locked) is not None


@pytest.mark.parametrize("password", [None, Secret("hush hush")])
def test_a_locked_key_without_its_password_is_an_error_and_no_question_at_the_terminal(
    password: Secret | None, locked: Settings
) -> None:
    with pytest.raises(UsageError, match="ssl_key_password is not the key's") as failed:
        tls_context(msgspec.structs.replace(locked, ssl_key_password=password))
    assert "hush" not in str(failed.value)


def test_a_ca_file_without_a_certificate_is_named(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("not a certificate")
    with pytest.raises(UsageError, match=r"ssl_cafile = '.*ca\.pem' holds no certificate in PEM"):
        tls_context(Settings(security_protocol="SSL", ssl_cafile=tmp_path / "ca.pem"))
