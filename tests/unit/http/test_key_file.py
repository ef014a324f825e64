from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest

from anabranch.errors import UsageError
from anabranch.http import api_keys, key_file
from anabranch.http.api_keys import ApiKeys
from anabranch.http.key_file import CHECK_INTERVAL_S, KeyFile


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s

    def later(self) -> None:
        self.now_s += CHECK_INTERVAL_S


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keys.json"


def add(path: Path, name: str) -> str:
    text, key = api_keys.create(name, ["events:write"])
    key_file.add(path, key)
    return text


def names(keys: ApiKeys) -> list[str]:
    return [key.name for key in keys.keys]


def test_keys_are_added_and_removed_and_only_the_owner_may_read_the_file(path: Path) -> None:
    previous = os.umask(0)
    try:
        for name in ("a", "b", "c"):
            add(path, name)
    finally:
        os.umask(previous)
    key_file.remove(path, "b")
    assert names(key_file.read(path)) == ["a", "c"]
    assert path.stat().st_mode & 0o777 == 0o600
    assert os.listdir(path.parent) == [path.name]


def test_the_text_of_a_key_is_not_in_the_file(path: Path) -> None:
    assert add(path, "a") not in path.read_text()


def test_a_name_is_used_once_and_only_what_is_there_is_removed(path: Path) -> None:
    add(path, "a")
    with pytest.raises(UsageError, match="there is a key a already"):
        add(path, "a")
    with pytest.raises(UsageError, match="there is no key b"):
        key_file.remove(path, "b")


def test_a_key_counts_and_a_removed_one_does_not_once_the_file_is_looked_at_again(path: Path) -> None:
    old, clock = add(path, "old"), Clock()
    file = KeyFile(path, clock)
    new = add(path, "new")
    key_file.remove(path, "old")
    assert file.keys().find(new) is None, "the file is looked at once in a while"
    clock.later()
    assert file.keys().find(new) is not None
    assert file.keys().find(old) is None


@pytest.mark.parametrize("content", [b"", b"[]", b'{"keys": [{"name": "a"}]}', b'{"keys": [{"name": "\xff"}]}', None])
def test_a_version_that_cannot_be_read_keeps_the_keys_before_it_and_is_logged_once(
    path: Path, content: bytes | None, caplog: pytest.LogCaptureFixture
) -> None:
    text, clock = add(path, "a"), Clock()
    file = KeyFile(path, clock)
    path.unlink() if content is None else path.write_bytes(content)
    with caplog.at_level(logging.ERROR):
        for _ in range(3):
            clock.later()
            assert file.keys().find(text) is not None
    [record] = caplog.records
    assert str(path) in record.getMessage() and "stay in use" in record.getMessage()
    path.unlink(missing_ok=True)
    add(path, "b")
    clock.later()
    assert names(file.keys()) == ["b"], "and the next one that can be read counts"


def test_a_missing_file_is_an_error_at_the_start_that_names_the_command(path: Path) -> None:
    with pytest.raises(UsageError, match="`anabranch keys create` writes it"):
        KeyFile(path)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ('{"keys": [{"name": "a", "scopes": ["events:read"], "sha256": "' + "0" * 64 + '"}]}', "events:read"),
        ('{"keys": [{"name": "a", "scopes": [], "sha256": "' + "0" * 64 + '"}]}', "length >= 1"),
        ('{"keys": [{"name": "a", "scopes": ["admin"], "sha256": "secret"}]}', "sha256"),
        ('{"keys": [], "more": 1}', "more"),
        (
            '{"keys": [' + ", ".join(2 * ['{"name": "a", "scopes": ["admin"], "sha256": "' + "0" * 64 + '"}']) + "]}",
            "same",
        ),
    ],
)
def test_a_file_that_is_no_list_of_keys_is_refused_with_the_reason(path: Path, content: str, problem: str) -> None:
    path.write_text(content)
    with pytest.raises(UsageError, match=problem):
        key_file.read(path)


def test_a_file_in_a_folder_that_is_not_there_is_an_error_that_says_so(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="its folder cannot be opened"):
        add(tmp_path / "nowhere" / "keys.json", "a")
