"""A lock that one process on one folder holds, over all machines that share the folder."""

from __future__ import annotations

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from anabranch.durable_files import create_folder
from anabranch.errors import AnabranchError, UsageError
from anabranch.settings import Settings

MAX_BYTES = 10_000
"""Of a lock file that are read; it has some lines."""


class FolderInUse(AnabranchError):
    """Another process holds the lock."""


@dataclass(frozen=True)
class Lock:
    """A lock that this process holds, with the notes in its file."""

    killed_holder: str | None
    """The last holder, if it ended without releasing the lock: it was killed, or the machine lost its power."""
    notes: tuple[str, ...]
    """What the killed holder noted."""
    _file: BinaryIO

    def note(self, line: str) -> None:
        """Leave a line for the next holder, in case this process is killed."""
        self._file.write(f"\n{line}".encode())
        self._file.flush()
        os.fsync(self._file.fileno())


@contextmanager
def locked(path: Path, purpose: str) -> Iterator[Lock]:
    """Hold the lock file at `path`. `purpose` says in the error what the holder does, such as "writes to FOLDER".

    The lock is flock(2)'s, which the kernel releases when the process ends, by kill -9 too. The file stays; while it is
    not empty, it names its holder. Raises `FolderInUse`, which names the holder, and `UsageError` where the file system
    has no locks.
    """
    create_folder(path.parent)
    with open(path, "ab+") as file:
        _lock(file, path, purpose)
        left = _lines(file)
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}".encode())
        file.flush()
        try:
            yield Lock(left[0] if left else None, tuple(left[1:]), file)
        finally:
            file.truncate(0)


def lock_path(settings: Settings) -> Path:
    """The file of the lock that every run in a data folder holds."""
    return settings.data_dir / "reshare" / "lock"


def is_locked(path: Path) -> bool:
    """Whether a process holds the lock."""
    try:
        with open(path, "rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def _lock(file: BinaryIO, path: Path, purpose: str) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        holder, *_ = _lines(file) or ["another process"]
        raise FolderInUse(f"{holder} {purpose}: wait until it has ended, or stop it (lock file {path})") from error
    except OSError as error:
        raise UsageError(f"{path} cannot be locked: {error.strerror}; use a folder on a local disk or NFS 4") from error


def _lines(file: BinaryIO) -> list[str]:
    file.seek(0)
    return file.read(MAX_BYTES).decode(errors="replace").splitlines()
