"""The folder of a new release, and with it the release's id."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from anabranch.durable_files import create_folder
from models.pipeline.release_folder import claim, removed_unless_finished

RELEASE_ID = re.compile(r"r([0-9]{1,9})")


@contextmanager
def new_release_folder(releases_dir: Path, announced: Iterable[str]) -> Iterator[Path]:
    """An empty folder whose name no other release has; `announced` has the ids of all notices. An error removes it,
    unless its manifest is written.

    An existing folder is never touched: it may be the live release's, whose notice was lost, or that of a run which is
    still training.
    """
    folder = _claim_next(releases_dir, announced)
    with removed_unless_finished(folder):
        yield folder


def _claim_next(releases_dir: Path, announced: Iterable[str]) -> Path:
    create_folder(releases_dir)
    names = (*announced, *(path.name for path in releases_dir.iterdir()))
    number = max((int(match[1]) for name in names if (match := RELEASE_ID.fullmatch(name))), default=0)
    while True:
        number += 1
        folder = releases_dir / f"r{number:04d}"
        try:
            claim(folder)
        except FileExistsError:  # another run has taken this number since
            continue
        return folder
