"""The TLS context of a client's connections, and connections that fail at the first refused authentication.

kafka-python 3.0.12 should raise a refused authentication at the next use of the node (dpkp/kafka-python#2994), but it
loses the error and retries: until the bootstrap times out without a reason, and for ever after the bootstrap. It also
drops data that arrives together with the end of a connection, which is the broker's reason for the refusal. No upstream
issue is known for either fault.
"""

from __future__ import annotations

import logging
import ssl
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from kafka.errors import SaslAuthenticationFailedError, UnsupportedSaslMechanismError
from kafka.net.compat import KafkaNetClient
from kafka.net.manager import KafkaConnectionManager
from kafka.net.selector import NetworkSelector

from anabranch.errors import BrokerRefused, UsageError
from anabranch.settings import Settings

log = logging.getLogger(__name__)


def net_client(settings: Settings, **configs: Any) -> KafkaNetClient:
    """For the option `kafka_client` of a client: see `FailFastConnectionManager`."""
    net = NetworkSelector(**configs)
    manager = FailFastConnectionManager(net, **configs)
    manager.password = partial(sasl_password, settings)
    return KafkaNetClient(net, manager, **configs)


class RedactedStr(str):
    """A string without a readable repr: kafka-python logs a client's whole configuration at DEBUG.

    No upstream issue is known.
    """

    def __repr__(self) -> str:
        return "…"


def sasl_password(settings: Settings) -> RedactedStr | None:
    """The password as of now; None if none is set. Raises `UsageError` if its file cannot be read."""
    return _secret(settings, "sasl_password")


def _secret(settings: Settings, name: str) -> RedactedStr | None:
    """A secret from its setting or from the file of the setting `<name>_file`, without a line break at its end."""
    path: Path | None = getattr(settings, f"{name}_file")
    if path is None:
        secret = getattr(settings, name)
        return None if secret is None else RedactedStr(secret.reveal())
    try:
        return RedactedStr(path.read_text("utf-8").rstrip("\r\n"))
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{name}_file = {str(path)!r} cannot be read: {error}") from error


class FailFastConnectionManager(KafkaConnectionManager):  # type: ignore[misc]
    """Raises a refused authentication at the next use of the node, and reads the password for each new connection.

    kafka-python keeps the password that a client was created with. No upstream issue is known.
    """

    password: Callable[[], RedactedStr | None]

    async def _connect(self, node: Any, conn: Any, *arguments: Any, **options: Any) -> None:
        try:
            conn.config["sasl_plain_password"] = self.password()
        except UsageError as error:  # the file is just being replaced: the password before may still hold
            log.warning("%s; connecting with the password that was read before", error)
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
    password = _secret(settings, "ssl_key_password") or ""  # with None, OpenSSL asks at the terminal
    try:
        context.load_cert_chain(path, settings.ssl_keyfile, password)
    except (OSError, ValueError) as error:
        raise UsageError(
            f"ssl_certfile = {str(path)!r} and ssl_keyfile = {str(settings.ssl_keyfile or path)!r} are not a "
            f"certificate and its key in PEM, or ssl_key_password is not the key's: {error}"
        ) from error
