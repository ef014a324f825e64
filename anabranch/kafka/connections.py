"""The TLS context of a client's connections, and connections that fail at the first refused authentication.

kafka-python 3.0.12 should raise a refused authentication at the next use of the node (dpkp/kafka-python#2994), but it
loses the error and retries: until the bootstrap times out without a reason, and for ever after the bootstrap. It also
drops data that arrives together with the end of a connection, which is the broker's reason for the refusal. No upstream
issue is known for either fault.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kafka.errors import SaslAuthenticationFailedError, UnsupportedSaslMechanismError
from kafka.net.compat import KafkaNetClient
from kafka.net.manager import KafkaConnectionManager
from kafka.net.selector import NetworkSelector

from anabranch.errors import BrokerRefused, UsageError
from anabranch.settings import Settings


def net_client(**configs: Any) -> KafkaNetClient:
    """For the option `kafka_client` of a client: does not retry after a refused authentication."""
    net = NetworkSelector(**configs)
    return KafkaNetClient(net, FailFastConnectionManager(net, **configs), **configs)


class FailFastConnectionManager(KafkaConnectionManager):  # type: ignore[misc]
    """Raises a refused authentication at the next use of the node."""

    async def _connect(self, node: Any, conn: Any, *arguments: Any, **options: Any) -> None:
        await super()._connect(node, conn, *arguments, **options)
        if conn.init_future.failed() and is_refusal(conn.init_future.exception):
            self._auth_failures[node.node_id] = conn.init_future.exception

    async def _build_transport(self, *arguments: Any, **options: Any) -> Any:
        transport = await super()._build_transport(*arguments, **options)
        receive = transport._sock_recv

        def data_before_error() -> tuple[bytes, Exception | None]:
            data, error = receive()
            return data, None if data else error  # the next call returns the error again

        transport._sock_recv = data_before_error
        return transport


def is_refusal(error: BaseException) -> bool:
    """Whether authentication or TLS failed, which a retry does not solve."""
    return (
        isinstance(error, SaslAuthenticationFailedError | UnsupportedSaslMechanismError) or tls_error(error) is not None
    )


def refused(settings: Settings, error: BaseException) -> BrokerRefused:
    """The error for a refusal, with the remedy."""
    servers = settings.bootstrap_servers
    ca_file = settings.ssl_cafile or "not set, so the system's CAs are trusted"
    match tls_error(error) or error:
        case ssl.SSLCertVerificationError(verify_message=why):
            return BrokerRefused(
                f"the certificate of {servers} is not trusted: {why.rstrip('.')}. Set ssl_cafile to the certificate of "
                f"the CA that issued it (it is {ca_file}), and use the broker's name in its certificate"
            )
        case ssl.SSLError() as broken:
            return BrokerRefused(
                f"no TLS with {servers}: {broken.reason or broken}. Check that security_protocol "
                f"{settings.security_protocol} is the one of its listener. If it needs a client certificate, set "
                "ssl_certfile and ssl_keyfile"
            )
        case UnsupportedSaslMechanismError():
            return BrokerRefused(
                f"{servers} does not offer sasl_mechanism {settings.sasl_mechanism}: set it to one that it offers"
            )
        case _:
            return BrokerRefused(
                f"{servers} refused user {settings.sasl_username!r} by {settings.sasl_mechanism}. Correct "
                "sasl_username and sasl_password (ANABRANCH_SASL_USERNAME, ANABRANCH_SASL_PASSWORD)"
            )


def tls_error(error: BaseException) -> ssl.SSLError | None:
    """The TLS error behind an error; None if there is none. An end of file is only a lost connection."""
    for cause in _causes(error):
        if isinstance(cause, ssl.SSLError) and not isinstance(cause, ssl.SSLEOFError | ssl.SSLZeroReturnError):
            return cause
    return None


def _causes(error: BaseException) -> Iterator[object]:
    yield error
    yield error.__context__
    yield from error.args


def tls_context(settings: Settings) -> ssl.SSLContext | None:
    """None without TLS. Raises `UsageError`, which names the setting with the wrong file."""
    if not settings.security_protocol.endswith("SSL"):
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.check_hostname = settings.ssl_check_hostname
    if settings.ssl_cafile is None:
        context.load_default_certs()
    else:
        _load_ca(context, settings.ssl_cafile)
    if settings.ssl_certfile is not None:
        _load_certificate(context, settings.ssl_certfile, settings)
    return context


def _load_ca(context: ssl.SSLContext, path: Path) -> None:
    try:
        context.load_verify_locations(path)
    except OSError as error:  # ssl.SSLError is one
        raise UsageError(f"ssl_cafile = {str(path)!r} holds no certificate in PEM: {error}") from error


def _load_certificate(context: ssl.SSLContext, path: Path, settings: Settings) -> None:
    secret = settings.ssl_key_password
    password = "" if secret is None else secret.reveal()  # with None, OpenSSL asks at the terminal
    try:
        context.load_cert_chain(path, settings.ssl_keyfile, password)
    except (OSError, ValueError) as error:
        raise UsageError(
            f"ssl_certfile = {str(path)!r} and ssl_keyfile = {str(settings.ssl_keyfile or path)!r} are not a "
            f"certificate and its key in PEM, or ssl_key_password is not the key's: {error}"
        ) from error
