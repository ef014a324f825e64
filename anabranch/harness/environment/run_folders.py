"""The folders of a run of demo, bench or chaos, which the next run replaces."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from anabranch import release
from anabranch.errors import UsageError

MARKER = ".replaced-by-the-next-run"
"""A file that such a run leaves in its data folder."""
OF_EARLIER_VERSIONS = ("summary.json", "cluster")
"""What runs of versions without the marker left behind, and nothing else does."""


def replace_run_folders(data_dir: Path, names: Sequence[str]) -> None:
    """Remove the named folders of an earlier run in `data_dir`, and mark it as a folder of such runs.

    Raises `UsageError` if it has releases that none of them has made: they may serve.
    """
    is_ours = any((data_dir / name).exists() for name in (MARKER, *OF_EARLIER_VERSIONS))
    if not is_ours and release.folders(data_dir / "releases"):
        raise UsageError(
            f"{data_dir} has releases that were not made by such a run, which would remove them: name another folder "
            "with --data-dir"
        )
    for name in names:
        shutil.rmtree(data_dir / name, ignore_errors=True)
    data_dir.mkdir(parents=True, exist_ok=True)
    (data_dir / MARKER).touch()
