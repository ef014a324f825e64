from __future__ import annotations

import os
from pathlib import Path

import pytest

from anabranch import durable_files, release
from tests.support.full_disk import files_up_to
from tests.support.releases import write_release


def test_a_file_is_replaced_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "file"
    durable_files.write_durably(path, b"first")
    durable_files.write_durably(path, b"second")
    assert path.read_bytes() == b"second"
    assert list(tmp_path.iterdir()) == [path]


def test_without_room_the_file_stays_as_it_was_and_nothing_is_left_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "file"
    durable_files.write_durably(path, b"first")
    with files_up_to(4096), pytest.raises(OSError, match="File too large"):
        durable_files.write_durably(path, bytes(100_000))
    assert path.read_bytes() == b"first"
    assert list(tmp_path.iterdir()) == [path]


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was waited for to be on the disk, in order: names of files and folders, as they were at that time."""
    names: list[str] = []
    fsync = os.fsync

    def record(descriptor: int) -> None:
        names.append(Path(os.readlink(f"/proc/self/fd/{descriptor}")).name)
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", record)
    return names


def test_a_file_is_on_the_disk_before_its_name_and_its_name_before_the_return(
    tmp_path: Path, synced: list[str]
) -> None:
    folder = tmp_path / "a" / "b"
    durable_files.create_folder(folder)
    durable_files.write_durably(folder / "file", b"payload")
    assert synced == [tmp_path.name, "a", "file.unfinished", "b"]


def test_a_release_is_on_the_disk_before_its_manifest_and_that_before_it_can_be_announced(
    tmp_path: Path, synced: list[str]
) -> None:
    folder = tmp_path / "releases" / "r0001"
    write_release(folder, "r0001", ["i1"])
    files = set(release.open_release(folder).manifest.files)
    assert set(synced[: len(files)]) == files
    assert synced[len(files) :] == ["manifest.json.unfinished", "r0001", "releases"]
