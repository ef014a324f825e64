from __future__ import annotations

import logging
from pathlib import Path

import pytest

from anabranch.errors import UsageError
from anabranch.http import api_keys, key_file
from anabranch.http.access import AccessControl
from anabranch.http.problems import HttpProblem
from anabranch.settings import Settings


def test_without_keys_only_a_loopback_address_is_served_and_the_log_says_so(caplog: pytest.LogCaptureFixture) -> None:
    for address in ("127.0.0.1", "127.0.0.2", "::1"):
        assert AccessControl.from_settings(Settings(), address).require(None, "events:write") is None
    assert {record.levelno for record in caplog.records} == {logging.WARNING}
    assert len(caplog.records) == 3
    for address in ("0.0.0.0", "::", "192.0.2.1"):
        with pytest.raises(UsageError, match=r"anabranch keys create.*api_keys_file.*or listen on 127\.0\.0\.1"):
            AccessControl.from_settings(Settings(), address)


def test_a_key_in_an_address_has_one_scope_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    writer, owner = api_keys.create("writer", ["events:write"]), api_keys.create("owner", ["events:write", "admin"])
    for _, key in (writer, owner):
        key_file.add(path, key)
    access = AccessControl.from_settings(Settings(api_keys_file=path), "0.0.0.0")
    access.require_public(writer[0], "events:write")
    for presented, scope, status in (
        (None, "events:write", 401),
        ("x", "events:write", 401),
        (owner[0], "events:write", 403),
        (writer[0], "admin", 403),
    ):
        with pytest.raises(HttpProblem) as raised:
            access.require_public(presented, scope)
        assert raised.value.status == status
    AccessControl(None).require_public(None, "events:write")


def test_a_key_lets_in_where_it_has_the_scope(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    writer, reader = (api_keys.create(scope[:6], [scope]) for scope in ("events:write", "rankings:read"))
    for _, key in (writer, reader):
        key_file.add(path, key)
    access = AccessControl.from_settings(Settings(api_keys_file=path), "0.0.0.0")
    assert access.require(f"Bearer {writer[0]}", "events:write") == writer[1].name
    for header, status in (
        (None, 401),
        ("Bearer x", 401),
        (f"Bearer {writer[1].sha256}", 401),
        (f"Bearer {reader[0]}", 403),
    ):
        with pytest.raises(HttpProblem) as raised:
            access.require(header, "events:write")
        assert raised.value.status == status
        assert ("WWW-Authenticate" in raised.value.headers) == (status == 401)
        assert reader[0] not in raised.value.body().decode()


def test_a_key_in_an_address_must_have_no_other_scope(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    alone, both = api_keys.create("alone", ["events:write"]), api_keys.create("both", ["events:write", "admin"])
    for _, key in (alone, both):
        key_file.add(path, key)
    access = AccessControl.from_settings(Settings(api_keys_file=path), "0.0.0.0")
    assert access.require_public(alone[0], "events:write") == "alone"
    assert access.require(f"Bearer {both[0]}", "events:write") == "both"
    for presented, status in ((None, 401), ("x", 401), (both[0], 403)):
        with pytest.raises(HttpProblem) as raised:
            access.require_public(presented, "events:write")
        assert raised.value.status == status
