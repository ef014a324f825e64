"""Releases announced by hand."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from anabranch.cli.main import app
from anabranch.kafka.release_topic import read_release_notices
from anabranch.kafka.topics import Topics
from anabranch.settings import Settings
from tests.support.releases import write_release


@pytest.fixture
def releases(settings: Settings, topics: Topics) -> Path:
    """The folder of releases, with r1 and r2."""
    folder = settings.data_dir / "releases"
    for name in ("r1", "r2"):
        write_release(folder / name, name, ["a", "b"])
    return folder


def announce(settings: Settings, folder: Path) -> Result:
    options = ("--bootstrap-servers", settings.bootstrap_servers, "--topic-prefix", settings.topic_prefix)
    folders = ("--set", f"releases_dir={settings.data_dir / 'releases'}", "--set", f"partitions={settings.partitions}")
    return CliRunner().invoke(app, [*options, *folders, "releases", "announce", str(folder), "--reason", "by hand"])


def live(settings: Settings) -> str | None:
    notice = read_release_notices(settings).live
    return None if notice is None else notice.release


def test_a_release_from_files_is_put_into_service_and_an_earlier_one_rolled_back_to(
    settings: Settings, releases: Path
) -> None:
    assert announce(settings, releases / "r1").output == "release r1 is live\n"
    assert announce(settings, releases / "r2").output == "release r2 is live; r1 is retired\n"
    assert live(settings) == "r2"
    announce(settings, releases / "r1")
    assert live(settings) == "r1"
    assert {name: notice.status for name, notice in read_release_notices(settings).newest.items()} == {
        "r1": "live",
        "r2": "retired",
    }


def test_a_release_with_a_changed_file_is_not_announced(settings: Settings, releases: Path) -> None:
    (releases / "r1" / "order.onnx").write_bytes(b"changed")
    assert announce(settings, releases / "r1").exit_code == 1
    assert live(settings) is None


def test_a_release_elsewhere_is_not_announced(settings: Settings, releases: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    (releases / "r1").rename(elsewhere)
    failed = announce(settings, elsewhere)
    assert failed.exit_code == 2
    assert "where all processes look for releases" in failed.output
    assert live(settings) is None
