from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import onnx
import pytest
from onnx.external_data_helper import set_external_data

from anabranch import release
from anabranch.messages import ReleaseNotice
from anabranch.ranking.inference.user_encoder import OnnxRecurrentEncoder
from anabranch.ranking.pipeline.servable import ServableRelease
from anabranch.release import ReleaseError, UnverifiedRelease
from tests.support.releases import TEXT_DIMS, write_release


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_release(tmp_path / "r1", item_ids=["a"], linear=False)
    return tmp_path / "r1"


@pytest.fixture
def parts(tmp_path: Path) -> Path:
    """A release that also has step.onnx in two halves."""
    write_release(tmp_path / "parts", item_ids=["a"])
    return tmp_path / "parts"


def load(folder: Path) -> ServableRelease:
    files = release.open_release(folder)
    return ServableRelease.load(files, files.manifest)


def rewrite(folder: Path, change: Callable[[dict[str, str]], dict[str, str]]) -> None:
    """Write the manifest again, with the changed list of files."""
    manifest = release.open_release(folder).manifest
    release.write(folder, msgspec.structs.replace(manifest, files=change(manifest.files)))


def seal(folder: Path) -> None:
    """Write the manifest again, with the sha256 of the files as they are now."""
    rewrite(folder, lambda files: release.digests(folder))


def test_an_untouched_release_verifies_and_loads(folder: Path) -> None:
    release.open_release(folder).verify()
    assert load(folder).manifest.id == "r1"


# --- a model is loaded from verified bytes ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", release.REQUIRED_FILES)
def test_an_altered_file_is_named_and_does_not_load(name: str, folder: Path) -> None:
    (folder / name).write_bytes((folder / name).read_bytes() + b"\n")
    with pytest.raises(ReleaseError, match=rf"{name} does not match its sha256"):
        release.open_release(folder).verify()
    with pytest.raises(ReleaseError, match=rf"{name} does not match its sha256"):
        load(folder)


def test_a_file_swapped_after_it_was_verified_does_not_load(folder: Path, tmp_path: Path) -> None:
    write_release(tmp_path / "other", item_ids=["a"], seed=1, linear=False)
    files = release.open_release(folder)
    files.verify()

    os.replace(tmp_path / "other" / "step.onnx", folder / "step.onnx")

    with pytest.raises(ReleaseError, match=r"step\.onnx does not match its sha256"):
        ServableRelease.load(files, files.manifest)


def test_a_loaded_release_works_after_its_folder_is_deleted(folder: Path) -> None:
    live = load(folder)
    before = live.embed_queries(["a"])

    for path in folder.iterdir():
        path.unlink()

    np.testing.assert_array_equal(live.embed_queries(["a"]), before)


def test_the_manifest_must_be_the_one_that_was_announced(folder: Path) -> None:
    notice = ReleaseNotice(
        release="r1",
        status="live",
        ts=1,
        location="r1",
        manifest_sha256=hashlib.sha256((folder / release.MANIFEST).read_bytes()).hexdigest(),
    )
    assert release.open_announced(folder.parent, notice).manifest.id == "r1"

    (folder / "items.json").write_bytes(b'{"b": 1}')
    seal(folder)
    with pytest.raises(ReleaseError, match="not the one announced for r1"):
        release.open_announced(folder.parent, notice)


def test_a_folder_that_holds_another_release_than_announced_is_refused(folder: Path) -> None:
    notice = ReleaseNotice(release="r2", status="live", ts=1, location="r1", manifest_sha256="0" * 64)
    with pytest.raises(ReleaseError, match="holds release r1, not r2"):
        release.open_announced(folder.parent, notice)


# --- what a folder must be --------------------------------------------------------------------------------------------


def test_a_missing_file_is_named(folder: Path) -> None:
    (folder / "step.onnx").unlink()
    with pytest.raises(ReleaseError, match=r"step\.onnx cannot be read: No such file"):
        release.open_release(folder).verify()


def test_the_error_for_a_missing_folder_names_releases_dir(tmp_path: Path) -> None:
    with pytest.raises(ReleaseError, match="does not exist: is releases_dir"):
        release.open_release(tmp_path / "r1")


def test_a_folder_without_a_manifest_is_no_release(tmp_path: Path) -> None:
    with pytest.raises(ReleaseError, match=r"manifest\.json cannot be read: No such file"):
        release.open_release(tmp_path)


@pytest.mark.parametrize("name", ["items.json", release.MANIFEST])
def test_a_file_that_is_a_link_is_refused(name: str, folder: Path, tmp_path: Path) -> None:
    (folder / name).rename(tmp_path / "elsewhere")
    (folder / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ReleaseError, match=rf"{name} is a symbolic link"):
        release.open_release(folder).verify()


def test_a_folder_that_is_a_link_is_refused(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "current").symlink_to(folder)
    with pytest.raises(ReleaseError, match="current is a symbolic link"):
        release.open_release(tmp_path / "current")


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo], ids=["folder", "pipe"])
def test_a_folder_or_a_pipe_in_place_of_a_file_is_refused_without_blocking(
    make: Callable[[Path], None], folder: Path
) -> None:
    (folder / "items.json").unlink()
    make(folder / "items.json")
    with pytest.raises(ReleaseError, match=r"items\.json (is not a regular file|cannot be read: Is a dir)"):
        release.open_release(folder).verify()


def test_an_oversized_file_is_refused_unread_and_is_not_put_in_a_manifest(folder: Path) -> None:
    with (folder / "items.json").open("wb") as file:
        file.truncate(release.MAX_FILE_BYTES + 1)  # sparse: no such bytes on disk
    with pytest.raises(ReleaseError, match=r"items\.json has 1073741825 bytes, more than the limit of 1073741824"):
        release.open_release(folder).verify()
    with pytest.raises(ReleaseError, match="more than the limit"):
        release.digests(folder)


# --- what a manifest must be ------------------------------------------------------------------------------------------


def test_a_manifest_of_the_wrong_shape_names_the_field(folder: Path) -> None:
    (folder / "manifest.json").write_bytes(b'{"id": 3}')
    with pytest.raises(ReleaseError, match=r"\$\.id"):
        release.open_release(folder)


def test_an_oversized_manifest_is_refused_unread(folder: Path) -> None:
    (folder / "manifest.json").write_bytes(b" " * (release.MAX_MANIFEST_BYTES + 1))
    with pytest.raises(ReleaseError, match="more than the limit"):
        release.open_release(folder)


def test_a_manifest_without_a_required_file_is_refused(folder: Path) -> None:
    rewrite(folder, lambda files: {name: sha256 for name, sha256 in files.items() if name != "step.onnx"})
    with pytest.raises(ReleaseError, match=r"lists no step\.onnx"):
        release.open_release(folder)


def test_a_manifest_with_too_many_files_is_refused(folder: Path) -> None:
    rewrite(folder, lambda files: files | {f"file{number}": "0" for number in range(release.MAX_FILES)})
    with pytest.raises(ReleaseError, match="a release has 32 at most"):
        release.open_release(folder)


@pytest.mark.parametrize(
    "name", ["../secret", "/etc/passwd", "a/b", "..", ".", "", "a\0b", "a\nb", ".hidden", "x" * 101, "manifest.json"]
)
def test_a_manifest_that_names_a_file_outside_its_folder_is_refused(name: str, folder: Path) -> None:
    rewrite(folder, lambda files: files | {name: "0"})
    with pytest.raises(ReleaseError, match="not a file of its own folder"):
        release.open_release(folder)


@pytest.mark.parametrize("location", ["../r1", "a/b", "..", "/etc", ""])
def test_a_location_that_leaves_the_releases_folder_is_refused(location: str, tmp_path: Path) -> None:
    with pytest.raises(ReleaseError, match="not the name of a folder"):
        release.folder_of(tmp_path, location)


# --- what the files must be -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("features", "reason"),
    [
        (["inner_product", "moon phase"], "moon phase, which this version does not build.*run `anabranch reshare`"),
        (["inner_product"], "names 1 features in its manifest, and has a model that reads"),
    ],
)
def test_a_release_made_for_other_features_does_not_load(features: list[str], reason: str, folder: Path) -> None:
    manifest = msgspec.structs.replace(release.open_release(folder).manifest, features=features)
    with pytest.raises(ReleaseError, match=reason):
        ServableRelease.load(UnverifiedRelease(folder), manifest)


@pytest.mark.parametrize("name", release.REQUIRED_FILES)
def test_a_file_that_cannot_be_parsed_is_named(name: str, folder: Path) -> None:
    (folder / name).write_bytes(b"nonsense")
    seal(folder)
    with pytest.raises(ReleaseError, match=name):
        load(folder)


@pytest.mark.parametrize("name", [release.GATES, release.READOUT])
def test_the_two_halves_of_the_step_are_verified_too(name: str, parts: Path) -> None:
    assert isinstance(load(parts).encoder, OnnxRecurrentEncoder)
    (parts / name).write_bytes(b"nonsense")
    with pytest.raises(ReleaseError, match=rf"{name} does not match its sha256"):
        load(parts)
    seal(parts)
    with pytest.raises(ReleaseError, match=rf"{name} .* cannot be loaded"):
        load(parts)


def test_one_half_of_the_step_alone_is_refused(parts: Path) -> None:
    rewrite(parts, lambda files: {name: sha256 for name, sha256 in files.items() if name != release.READOUT})
    with pytest.raises(ReleaseError, match=r"lists no readout\.onnx"):
        load(parts)


@pytest.mark.parametrize("location", ["weights.bin", "../r1/weights.bin", "/etc/passwd", "*/_ORT_MEM_ADDR_/*"])
def test_a_model_with_weights_outside_its_file_is_refused(
    location: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)  # where ONNX Runtime would look for them
    put_weights_outside(folder / "item.onnx", location)
    seal(folder)
    with pytest.raises(ReleaseError, match=r"item\.onnx .* cannot be loaded"):
        load(folder)


def put_weights_outside(path: Path, location: str) -> None:
    """Move a model's largest tensor to `weights.bin` in the same folder, and refer to it as `location`."""
    model = onnx.load(path)
    weights = next(tensor for tensor in model.graph.initializer if tensor.name == "projection")
    path.with_name("weights.bin").write_bytes(weights.raw_data)
    assert len(weights.raw_data) == TEXT_DIMS * 8 * 4
    set_external_data(weights, location, offset=0, length=len(weights.raw_data))
    weights.ClearField("raw_data")
    path.write_bytes(model.SerializeToString())
