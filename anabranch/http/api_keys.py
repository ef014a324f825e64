"""API keys: what a client presents, and what is stored of it.

A key is 256 random bits, so that its SHA-256 cannot be inverted by trying keys, and needs neither salt nor a slow hash.
"""

from __future__ import annotations

import hmac
import secrets
from base64 import b64decode
from collections.abc import Sequence
from hashlib import sha256
from typing import Annotated, Literal

from msgspec import Meta, Struct

Scope = Literal["events:write", "rankings:read", "admin"]
KeyName = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
KEY_BYTES = 32


class ApiKey(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is stored of a key. No scope includes another."""

    name: KeyName
    scopes: Annotated[tuple[Scope, ...], Meta(min_length=1, max_length=16)]
    sha256: Annotated[str, Meta(pattern=r"^[0-9a-f]{64}$")]
    """Of the key's text."""


class ApiKeys(Struct, frozen=True, forbid_unknown_fields=True):
    """All keys of an installation. Raises `ValueError` if two have the same name."""

    keys: Annotated[tuple[ApiKey, ...], Meta(max_length=10_000)] = ()

    def __post_init__(self) -> None:
        names = [key.name for key in self.keys]
        if len(set(names)) < len(names):
            raise ValueError("two keys have the same name")

    def find(self, presented: str) -> ApiKey | None:
        """The key that a client presents; None if there is no such key.

        The time that it takes does not depend on which key it is, or on how much of a hash agrees.
        """
        digest = _digest(presented)
        match: ApiKey | None = None
        for key in self.keys:
            if hmac.compare_digest(key.sha256, digest):
                match = key
        return match


def create(name: str, scopes: Sequence[Scope]) -> tuple[str, ApiKey]:
    """A new random key, as its text and as what is stored of it."""
    text = secrets.token_urlsafe(KEY_BYTES)
    return text, ApiKey(name=name, scopes=tuple(scopes), sha256=_digest(text))


def presented_key(authorization: str | None) -> str | None:
    """The key in the header `Authorization`: a bearer token (RFC 6750), or the user name of basic authentication
    (RFC 7617), whose password does not count. None if there is none."""
    scheme, _, credentials = (authorization or "").partition(" ")
    credentials = credentials.strip()
    if scheme.lower() == "bearer":
        return credentials or None
    if scheme.lower() != "basic":
        return None
    try:
        user, _, _ = b64decode(credentials, validate=True).decode().partition(":")
    except ValueError:  # no base64, or no UTF-8 in it
        return None
    return user or None


def _digest(text: str) -> str:
    return sha256(text.encode()).hexdigest()
