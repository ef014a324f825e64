"""The file of API keys: read anew when it changes, written as a whole."""

from __future__ import annotations

import fcntl
import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from anabranch.durable_files import replaced_durably
from anabranch.errors import UsageError
from anabranch.http.api_keys import ApiKey, ApiKeys

CHECK_INTERVAL_S = 1.0
"""A key that was added or removed counts after this time at the latest."""
KEY_FILE_MODE = 0o600
log = logging.getLogger(__name__)

Version = tuple[int, int, int] | None
"""What differs between two versions of a file: inode, time of the change, size. None: there is no file."""


class KeyFile:
    """The keys as of now. A new version that cannot be read is logged, and the keys before it stay."""

    def __init__(self, path: Path, monotonic: Callable[[], float] = time.monotonic) -> None:
        """Raises `UsageError` if the file cannot be read."""
        self._path = path
        self._monotonic = monotonic
        self._version = _version(path)
        self._keys = read(path)
        self._checked_at_s = monotonic()

    def keys(self) -> ApiKeys:
        """The keys of the newest version that could be read, which is looked for once in `CHECK_INTERVAL_S`."""
        if self._monotonic() - self._checked_at_s >= CHECK_INTERVAL_S:
            self._checked_at_s = self._monotonic()
            version = _version(self._path)
            if version != self._version:
                self._version = version
                self._read_anew()
        return self._keys

    def _read_anew(self) -> None:
        try:
            self._keys = read(self._path)
            log.info("%d API keys from %s", len(self._keys.keys), self._path)
        except UsageError as error:
            log.error("%s; the keys that were read before stay in use", error)


def read(path: Path) -> ApiKeys:
    """The keys of a file. Raises `UsageError`, with the remedy."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=ApiKeys)
    except FileNotFoundError as error:
        raise UsageError(
            f"api_keys_file = {str(path)!r}: there is no such file; `anabranch keys create` writes it"
        ) from error
    except (OSError, ValueError) as error:  # msgspec's errors are the latter, and what is no UTF-8
        raise UsageError(f"api_keys_file = {str(path)!r} cannot be read: {error}") from error


def add(path: Path, key: ApiKey) -> None:
    """Add a key; it is on the disk on return. Raises `UsageError` if the name is in use, or the file unreadable."""
    with _locked(path):
        keys = read(path).keys if path.exists() else ()
        if any(key.name == other.name for other in keys):
            raise UsageError(f"there is a key {key.name} already: choose another --name, or remove it first")
        _write(path, ApiKeys((*keys, key)))


def remove(path: Path, name: str) -> None:
    """Remove a key. Raises `UsageError` if there is none of this name, or the file is unreadable."""
    with _locked(path):
        keys = read(path).keys
        others = tuple(key for key in keys if key.name != name)
        if len(others) == len(keys):
            raise UsageError(f"there is no key {name}: `anabranch keys list` lists them")
        _write(path, ApiKeys(others))


def _write(path: Path, keys: ApiKeys) -> None:
    """Only the file's owner may read it."""
    with replaced_durably(path) as unfinished:
        unfinished.unlink(missing_ok=True)
        unfinished.touch(KEY_FILE_MODE)
        unfinished.write_bytes(msgspec.json.format(msgspec.json.encode(keys)) + b"\n")


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """One process at a time changes files in the folder; the lock ends with the process."""
    try:
        folder = os.open(path.parent, os.O_RDONLY)
    except OSError as error:
        raise UsageError(f"api_keys_file = {str(path)!r}: its folder cannot be opened: {error}") from error
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


def _version(path: Path) -> Version:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size
