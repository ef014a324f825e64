from __future__ import annotations

import hmac
from base64 import b64encode
from hashlib import sha256

import pytest

from anabranch.http import api_keys
from anabranch.http.api_keys import ApiKey, ApiKeys, presented_key


def basic(credentials: bytes) -> str:
    return f"Basic {b64encode(credentials).decode()}"


def test_a_key_has_256_random_bits_and_its_hash_alone_is_stored() -> None:
    text, key = api_keys.create("shop", ["events:write"])
    other, _ = api_keys.create("shop", ["events:write"])
    assert len(text) == 43 and text != other
    assert key == ApiKey(name="shop", scopes=("events:write",), sha256=sha256(text.encode()).hexdigest())


def test_a_key_is_found_by_its_text_and_by_nothing_else() -> None:
    created = [api_keys.create(name, ["events:write"]) for name in ("a", "b", "c")]
    keys = ApiKeys(tuple(key for _, key in created))
    for text, key in created:
        assert keys.find(text) == key
        assert keys.find(key.sha256) is None, "who reads the file cannot use what is in it"
        assert keys.find(text[:-1]) is None
    assert keys.find("") is None


def test_every_key_is_compared_in_constant_time_whichever_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    text, key = api_keys.create("first", ["admin"])
    keys = ApiKeys((key, *(api_keys.create(f"k{number}", ["admin"])[1] for number in range(4))))
    compared: list[str] = []

    def compare(stored: str, presented: str) -> bool:
        compared.append(stored)
        return stored == presented

    monkeypatch.setattr(hmac, "compare_digest", compare)
    assert keys.find(text) == key
    assert compared == [key.sha256 for key in keys.keys]


@pytest.mark.parametrize(
    ("header", "key"),
    [
        ("Bearer k", "k"),
        ("bearer  k ", "k"),
        (basic(b"k:"), "k"),
        (basic(b"k:password"), "k"),
        (basic(b"k"), "k"),
        (None, None),
        ("", None),
        ("Bearer ", None),
        ("k", None),
        ("Digest k", None),
        ("Basic k", None),
        (basic(b":k"), None),
        (basic(b"\xff:"), None),
        ("Basic \xff", None),
    ],
)
def test_a_key_is_a_bearer_token_or_the_user_of_basic_authentication(header: str | None, key: str | None) -> None:
    assert presented_key(header) == key
