from __future__ import annotations

from pathlib import Path

import pytest

from anabranch.errors import UsageError
from anabranch.harness.environment.run_folders import replace_run_folders
from tests.support.releases import write_release


def test_a_run_replaces_the_releases_of_the_run_before_it(tmp_path: Path) -> None:
    replace_run_folders(tmp_path / "new", ["releases", "logs"])
    write_release(tmp_path / "new" / "releases" / "r0001")
    replace_run_folders(tmp_path / "new", ["releases", "logs"])
    assert not (tmp_path / "new" / "releases").exists()


@pytest.mark.parametrize("left", ["summary.json", "cluster"])
def test_a_run_replaces_the_releases_of_a_run_of_an_earlier_version(left: str, tmp_path: Path) -> None:
    write_release(tmp_path / "releases" / "r0001")
    (tmp_path / left).mkdir()
    replace_run_folders(tmp_path, ["releases"])
    assert not (tmp_path / "releases").exists()


def test_a_run_in_the_folder_of_releases_that_serve_is_refused(tmp_path: Path) -> None:
    write_release(tmp_path / "releases" / "r0001")
    (tmp_path / "reshare").mkdir()
    for _ in range(2):
        with pytest.raises(UsageError, match=f"{tmp_path} has releases that were not made by such a run"):
            replace_run_folders(tmp_path, ["releases", "reshare"])
    assert (tmp_path / "releases" / "r0001" / "manifest.json").exists() and (tmp_path / "reshare").exists()
