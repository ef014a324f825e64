"""The folder that a release is made in."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def removed_on_error(folder: Path) -> Iterator[Path]:
    """Remove the folder if the block fails. What a killed process leaves is no release: it has no manifest."""
    try:
        yield folder
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
