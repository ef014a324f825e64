from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from anabranch import release
from anabranch.ranking.live import LiveRelease
from anabranch.release import ReleaseError
from tests.releases import write_release


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_release(tmp_path / "r1", item_ids=["a"])
    return tmp_path / "r1"


def test_an_untouched_release_verifies(folder: Path) -> None:
    assert release.verify(folder).id == "r1"


def test_an_altered_file_is_named(folder: Path) -> None:
    (folder / "items.json").write_bytes(b'{"a": 2}')
    with pytest.raises(ReleaseError, match=r"items\.json does not match its sha256"):
        release.verify(folder)


def test_a_missing_file_is_named(folder: Path) -> None:
    (folder / "step.onnx").unlink()
    with pytest.raises(ReleaseError, match=r"lacks step\.onnx"):
        release.verify(folder)


def test_a_folder_without_a_manifest_is_no_release(tmp_path: Path) -> None:
    with pytest.raises(ReleaseError, match="does not exist"):
        release.read(tmp_path)


def test_a_manifest_of_the_wrong_shape_names_the_field(folder: Path) -> None:
    (folder / "manifest.json").write_bytes(b'{"id": 3}')
    with pytest.raises(ReleaseError, match=r"\$\.id"):
        release.read(folder)


def test_an_oversized_manifest_is_refused_unread(folder: Path) -> None:
    (folder / "manifest.json").write_bytes(b" " * (release.MAX_MANIFEST_BYTES + 1))
    with pytest.raises(ReleaseError, match="larger than"):
        release.read(folder)


@pytest.mark.parametrize("location", ["../r1", "a/b", "..", "/etc"])
def test_a_location_that_leaves_the_releases_folder_is_refused(location: str, tmp_path: Path) -> None:
    with pytest.raises(ReleaseError, match="not the name of a folder"):
        release.folder_of(tmp_path, location)


def test_a_manifest_that_names_a_file_outside_its_folder_is_refused(folder: Path) -> None:
    manifest = release.read(folder)
    release.write(folder, msgspec.structs.replace(manifest, files=manifest.files | {"../secret": "0"}))
    with pytest.raises(ReleaseError, match="not a file of its own folder"):
        release.verify(folder)


def test_a_release_made_for_other_features_does_not_load(folder: Path) -> None:
    manifest = msgspec.structs.replace(release.read(folder), features=["inner_product"])
    with pytest.raises(ReleaseError, match="re-share with this version"):
        LiveRelease.load(folder, manifest)
