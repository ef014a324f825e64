"""The folder that a release is made in."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from anabranch.durable_files import create_folder
from anabranch.errors import UsageError
from anabranch.private_files import SHARED_FOLDER
from anabranch.release import MANIFEST


def claim(folder: Path) -> None:
    """Create the folder, whose name nobody else can take from now on. Raises `FileExistsError` if somebody has."""
    if not folder.parent.is_dir():
        create_folder(folder.parent)
        folder.parent.chmod(SHARED_FOLDER)
    folder.mkdir()


@contextmanager
def claimed_folder(folder: Path) -> Iterator[Path]:
    """The new folder; it is removed if the block fails. Raises `UsageError` if it exists."""
    try:
        claim(folder)
    except FileExistsError as error:
        raise UsageError(f"{folder} exists already, and a release never changes: name a new folder") from error
    with removed_unless_finished(folder):
        yield folder


@contextmanager
def removed_unless_finished(folder: Path) -> Iterator[None]:
    """Remove a folder that this process has claimed if the block fails, but never one with a manifest: it is a release.

    What a killed process leaves is no release, because it has no manifest.
    """
    try:
        yield
    except BaseException:
        if not (folder / MANIFEST).exists():
            shutil.rmtree(folder, ignore_errors=True)
        raise
