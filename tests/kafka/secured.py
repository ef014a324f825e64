"""Apache Kafka that lets in who has a password or a certificate, for the tests of security."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import trustme
from cryptography.hazmat.primitives import serialization

from anabranch.harness.environment.broker import START_TIMEOUT_S, STOP_TIMEOUT_S
from anabranch.harness.environment.kafka_node import KafkaNode, Quorum
from anabranch.harness.environment.processes import free_ports
from anabranch.harness.environment.server import Server
from anabranch.settings import Secret, Settings

USER = "anabranch"
PASSWORD = "correct-horse=battery-staple"
OTHER_CA = "other-ca.pem"


@dataclass(frozen=True)
class Secured:
    """One node with two listeners for clients: SASL_SSL with SCRAM-SHA-512, and SSL that asks for a certificate."""

    folder: Path
    scram_port: int
    mutual_port: int

    @property
    def scram(self) -> Settings:
        """Settings that are let in by password."""
        return Settings(
            bootstrap_servers=f"127.0.0.1:{self.scram_port}",
            security_protocol="SASL_SSL",
            sasl_mechanism="SCRAM-SHA-512",
            sasl_username=USER,
            sasl_password=Secret(PASSWORD),
            ssl_cafile=self.folder / "ca.pem",
        )

    @property
    def mutual(self) -> Settings:
        """Settings that are let in by certificate."""
        return Settings(
            bootstrap_servers=f"127.0.0.1:{self.mutual_port}",
            security_protocol="SSL",
            ssl_cafile=self.folder / "ca.pem",
            ssl_certfile=self.folder / "client.pem",
        )


@contextmanager
def start_secured(folder: Path) -> Iterator[Secured]:
    """A secured node on free ports of 127.0.0.1, its certificates beside its data; stopped at the end."""
    scram, mutual, internal, controller = free_ports(4)
    _write_certificates(folder)
    node = KafkaNode(
        folder / "data",
        scram,
        Quorum({1: controller}),
        properties=_properties(folder, scram, mutual, internal, controller),
        scram_users=[f"SCRAM-SHA-512=[name={USER},password={PASSWORD}]"],
    )
    server = Server("broker", node.prepare(), folder / "server.log", address=f"127.0.0.1:{scram}")
    try:
        server.start()
        server.wait_until_ready(_listens, START_TIMEOUT_S)
        yield Secured(folder, scram, mutual)
    finally:
        server.stop(STOP_TIMEOUT_S)


def _write_certificates(folder: Path) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(folder / "ca.pem")
    trustme.CA().cert_pem.write_to_path(folder / OTHER_CA)
    authority.issue_cert("client@anabranch.test").private_key_and_cert_chain_pem.write_to_path(folder / "client.pem")
    server = authority.issue_cert("127.0.0.1")
    # Kafka reads a key as PKCS #8 alone.
    key = serialization.load_pem_private_key(server.private_key_pem.bytes(), None).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (folder / "server.pem").write_bytes(key + b"".join(certificate.bytes() for certificate in server.cert_chain_pems))


def _properties(folder: Path, scram: int, mutual: int, internal: int, controller: int) -> dict[str, object]:
    listeners = f"SCRAM://127.0.0.1:{scram},MUTUAL://127.0.0.1:{mutual},INTERNAL://127.0.0.1:{internal}"
    return {
        "listeners": f"{listeners},CONTROLLER://127.0.0.1:{controller}",
        "advertised.listeners": listeners,
        "listener.security.protocol.map": "SCRAM:SASL_SSL,MUTUAL:SSL,INTERNAL:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "inter.broker.listener.name": "INTERNAL",
        "sasl.enabled.mechanisms": "SCRAM-SHA-512",
        "listener.name.scram.scram-sha-512.sasl.jaas.config": (
            "org.apache.kafka.common.security.scram.ScramLoginModule required;"
        ),
        "listener.name.mutual.ssl.client.auth": "required",
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": folder / "server.pem",
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": folder / "ca.pem",
    }


def _listens(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=1.0).close()
    except OSError:
        return False
    return True
