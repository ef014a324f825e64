"""Who may read what Anabranch writes: its own user, and for releases everybody on the machine."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from anabranch.cli.main import app
from anabranch.private_files import protect
from models.pipeline.release_folder import claim
from tests.support.releases import write_release


@pytest.fixture(autouse=True)
def umask() -> Iterator[None]:
    """Restored after the test; before it, others may read what is created."""
    before = os.umask(0o022)
    yield
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_what_a_process_creates_is_its_users_alone(tmp_path: Path) -> None:
    protect(tmp_path / "data")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "events").write_text("u1")
    assert mode(tmp_path / "data") == 0o700
    assert mode(tmp_path / "data" / "events") == 0o600


def test_a_data_folder_that_others_may_read_is_closed_to_them(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    assert CliRunner().invoke(app, ["--data-dir", str(tmp_path), "inspect", "settings"]).exit_code == 0
    assert mode(tmp_path) == 0o700


def test_a_release_can_be_read_by_rankers_of_another_user(tmp_path: Path) -> None:
    protect(tmp_path / "data")
    claim(tmp_path / "releases" / "r2")
    assert mode(tmp_path / "releases") == 0o755
    write_release(tmp_path / "releases" / "r1", "r1", ["soup"])
    assert mode(tmp_path / "releases" / "r1") == 0o755
    assert {mode(path) for path in (tmp_path / "releases" / "r1").iterdir()} == {0o644}
