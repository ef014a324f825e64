"""How a client's connections are made: the TLS context, and an end at the first refusal.

kafka-python 3.0.12 means to raise a refused authentication when its node is wanted next, but swallows it and tries
again: until its bootstrap times out without a word on why, and afterwards for ever. It also drops what came together
with a connection's end, which is where a broker says why it refuses.
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
    """For a client's `kafka_client`: one whose connections are not tried again after a refusal."""
    net = NetworkSelector(**configs)
    return KafkaNetClient(net, Connections(net, **configs), **configs)


class Connections(KafkaConnectionManager):  # type: ignore[misc]
    """Connections to brokers by node; a refusal is raised wherever the node is wanted next."""

    async def _connect(self, node: Any, conn: Any, *arguments: Any, **options: Any) -> None:
        await super()._connect(node, conn, *arguments, **options)
        if conn.init_future.failed() and is_refusal(conn.init_future.exception):
            self._auth_failures[node.node_id] = conn.init_future.exception

    async def _build_transport(self, *arguments: Any, **options: Any) -> Any:
        transport = await super()._build_transport(*arguments, **options)
        receive = transport._sock_recv

        def everything_first() -> tuple[bytes, Exception | None]:
            data, error = receive()
            return data, None if data else error  # the end is met again at the next call

        transport._sock_recv = everything_first
        return transport


def is_refusal(error: BaseException) -> bool:
    """Whether one side does not trust the other, which trying again does not mend."""
    return (
        isinstance(error, SaslAuthenticationFailedError | UnsupportedSaslMechanismError) or tls_error(error) is not None
    )


def refused(settings: Settings, error: BaseException) -> BrokerRefused:
    """A refusal in words, with the remedy."""
    at, trusted = settings.bootstrap_servers, settings.ssl_cafile or "not set: the system's are trusted"
    match tls_error(error) or error:
        case ssl.SSLCertVerificationError(verify_message=why):
            return BrokerRefused(
                f"the certificate of {at} is not trusted: {why.rstrip('.')}. Set ssl_cafile to that of the CA which "
                f"issued it (it is {trusted}), and name the broker as its certificate does"
            )
        case ssl.SSLError() as broken:
            return BrokerRefused(
                f"no TLS with {at}: {broken.reason or broken}. Is security_protocol {settings.security_protocol} what "
                "it speaks there? If it asks for a client's certificate, set ssl_certfile and ssl_keyfile"
            )
        case UnsupportedSaslMechanismError():
            return BrokerRefused(
                f"{at} does not offer sasl_mechanism {settings.sasl_mechanism}: set it to one that it does"
            )
        case _:
            return BrokerRefused(
                f"{at} refused user {settings.sasl_username!r} by {settings.sasl_mechanism}. Correct sasl_username and "
                "sasl_password (ANABRANCH_SASL_USERNAME, ANABRANCH_SASL_PASSWORD)"
            )


def tls_error(error: BaseException) -> ssl.SSLError | None:
    """What went wrong in TLS, if that lies behind an error; an end of file is no more than a lost connection."""
    for behind in _behind(error):
        if isinstance(behind, ssl.SSLError) and not isinstance(behind, ssl.SSLEOFError | ssl.SSLZeroReturnError):
            return behind
    return None


def _behind(error: BaseException) -> Iterator[object]:
    yield error
    yield error.__context__
    yield from error.args


def tls_context(settings: Settings) -> ssl.SSLContext | None:
    """None without TLS. Raises `UsageError` naming the setting whose file is not what it should be."""
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
    password = "" if secret is None else secret.reveal()  # None would ask at the terminal
    try:
        context.load_cert_chain(path, settings.ssl_keyfile, password)
    except (OSError, ValueError) as error:
        raise UsageError(
            f"ssl_certfile = {str(path)!r} and ssl_keyfile = {str(settings.ssl_keyfile or path)!r} are not a "
            f"certificate and its key in PEM, or ssl_key_password is not the key's: {error}"
        ) from error
