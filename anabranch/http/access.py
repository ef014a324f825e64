"""Who may do what, by API keys and the address that is served."""

from __future__ import annotations

import logging
from http import HTTPStatus
from ipaddress import ip_address

from anabranch.errors import UsageError
from anabranch.http.api_keys import ApiKey, Scope, presented_key
from anabranch.http.key_file import KeyFile
from anabranch.http.problems import HttpProblem
from anabranch.settings import Settings

CHALLENGES = 'Bearer realm="anabranch", Basic realm="anabranch"'
"""Of `WWW-Authenticate` (RFC 9110, 11.6.1): how to authenticate."""
log = logging.getLogger(__name__)


class AccessControl:
    """Decides by the API key of a request. Without a file of keys, everybody may do everything."""

    def __init__(self, key_file: KeyFile | None) -> None:
        self._key_file = key_file

    @classmethod
    def from_settings(cls, settings: Settings, address: str) -> AccessControl:
        """For a server that listens on this IP address.

        Raises `UsageError` if there is no file of keys and others than this machine reach the address.
        """
        if settings.api_keys_file is not None:
            return cls(KeyFile(settings.api_keys_file))
        if not ip_address(address).is_loopback:
            raise UsageError(
                f"{address} can be reached from other machines, and without api_keys_file anybody there could call "
                "this server: create a key with `anabranch keys create` and set api_keys_file "
                "(ANABRANCH_API_KEYS_FILE), or listen on 127.0.0.1"
            )
        log.warning("api_keys_file is not set: every process of this machine may call this server, without a key")
        return cls(None)

    def require(self, authorization: str | None, scope: Scope) -> str | None:
        """The name of the key in this header; None if no key is needed.

        Raises `HttpProblem`: 401 without a key that is in the file, 403 if the key does not have the scope.
        """
        return self.require_key(presented_key(authorization), scope)

    @property
    def needs_key(self) -> bool:
        """Whether a request needs a key at all."""
        return self._key_file is not None

    def require_key(self, presented: str | None, scope: Scope) -> str | None:
        """The name of a key that a client presents elsewhere, in the body of a request; else as `require`."""
        return None if self._key_file is None else self._allowed(presented, scope).name

    def require_public(self, presented: str | None, scope: Scope) -> str | None:
        """The name of a key in an address, where others read it: in the source of pages, and in the logs of proxies.

        Raises `HttpProblem`: 401 without a key that is in the file, 403 unless the key has this scope and no other.
        """
        if self._key_file is None:
            return None
        key = self._allowed(presented, scope)
        if set(key.scopes) != {scope}:
            raise HttpProblem(
                HTTPStatus.FORBIDDEN,
                f"the API key {key.name} has more scopes than {scope}, so it must not be in an address, where others "
                "read it: remove it, and use a key with this scope alone",
            )
        return key.name

    def _allowed(self, presented: str | None, scope: Scope) -> ApiKey:
        """The key that a client presents. Raises `HttpProblem` as `require` says."""
        assert self._key_file is not None
        key = None if presented is None else self._key_file.keys().find(presented)
        if key is None:
            problem = "no API key" if presented is None else "an API key that is not valid"
            raise HttpProblem(
                HTTPStatus.UNAUTHORIZED,
                f"the request has {problem}: send `Authorization: Bearer KEY`, or the key as the user name of basic "
                "authentication",
                {"WWW-Authenticate": CHALLENGES},
            )
        if scope not in key.scopes:
            raise HttpProblem(
                HTTPStatus.FORBIDDEN, f"the API key {key.name} does not have the scope {scope}: use one that has it"
            )
        return key
