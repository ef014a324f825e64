"""Files that a crash or a power loss leaves whole or absent: written beside their place, synced, then renamed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

UNFINISHED = ".unfinished"
"""Suffix of a file that is being written. What a killed process leaves under it is overwritten by the next one."""


def write_durably(path: Path, payload: bytes) -> None:
    """Write a file, or replace it as a whole; its folder must exist. Returns once the file is on the disk."""
    with replaced_durably(path) as unfinished:
        unfinished.write_bytes(payload)


@contextmanager
def replaced_durably(path: Path) -> Iterator[Path]:
    """Yields the path to write to. At the end of the block that file is synced and takes the place of `path`.

    On an error the unfinished file is removed, and `path` stays as it was.
    """
    unfinished = path.with_name(path.name + UNFINISHED)
    try:
        yield unfinished
        sync(unfinished)
        unfinished.replace(path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise
    sync(path.parent)


def create_folder(folder: Path) -> None:
    """Create a folder, unless it exists, with its parents; each new entry is on the disk on return."""
    if not folder.is_dir():
        create_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        sync(folder.parent)


def sync_files(folder: Path) -> None:
    """Wait until the files of a folder are on the disk."""
    for path in folder.iterdir():
        sync(path)


def sync(path: Path) -> None:
    """Wait until a file's contents, or a folder's entries, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
