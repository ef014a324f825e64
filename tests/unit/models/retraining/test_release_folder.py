from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from threading import Barrier

import pytest

from anabranch.errors import UsageError
from anabranch.release import open_release
from models.pipeline.release_folder import claimed_folder
from models.retraining.release_folder import new_release_folder
from tests.support.releases import write_release


@pytest.mark.parametrize(
    ("announced", "present", "name"),
    [
        ([], [], "r0001"),
        (["r0001", "r0002"], ["r0001", "r0002"], "r0003"),
        (["r0001", "r0003"], [], "r0004"),
        (["r0001"], ["r0001", "r0007"], "r0008"),
        ([], ["r0001"], "r0002"),
        (["r9999"], [], "r10000"),
        (["r2", "diginetica"], ["diginetica", "r0001-copy"], "r0003"),
    ],
)
def test_a_release_has_the_number_after_all_notices_and_folders(
    tmp_path: Path, announced: list[str], present: list[str], name: str
) -> None:
    for folder in present:
        (tmp_path / folder).mkdir()
    with new_release_folder(tmp_path, announced) as folder:
        assert folder == tmp_path / name
        assert not list(folder.iterdir())


def test_runs_at_the_same_time_have_folders_of_their_own(tmp_path: Path) -> None:
    runs = 8
    start = Barrier(runs)

    def create(_: int) -> Path:
        start.wait()
        return folders.enter_context(new_release_folder(tmp_path, ["r0001"]))

    with ExitStack() as folders, ThreadPoolExecutor(runs) as pool:
        assert sorted(path.name for path in pool.map(create, range(runs))) == [f"r000{2 + run}" for run in range(runs)]


def test_a_number_that_another_run_takes_first_is_skipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "r0001").mkdir()
    with monkeypatch.context() as patched:
        patched.setattr(Path, "iterdir", lambda path: iter(()))  # listed before the other run made its folder
        with new_release_folder(tmp_path, []) as folder:
            assert folder.name == "r0002"


def test_a_run_that_fails_removes_its_folder_and_no_other(tmp_path: Path) -> None:
    (tmp_path / "r0001").mkdir()
    with pytest.raises(RuntimeError, match="training failed"), new_release_folder(tmp_path, []) as folder:
        (folder / "step.onnx").write_bytes(b"half")
        raise RuntimeError("training failed")
    assert [path.name for path in tmp_path.iterdir()] == ["r0001"]


def test_a_folder_with_a_manifest_is_never_removed(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="stopped"), new_release_folder(tmp_path, []) as folder:
        write_release(tmp_path / "other", "r0001")
        for path in (tmp_path / "other").iterdir():
            path.rename(folder / path.name)
        raise RuntimeError("stopped after the manifest was written, before anything was announced")
    assert open_release(tmp_path / "r0001").manifest.id == "r0001"


def test_a_release_made_from_files_never_takes_an_existing_folder(tmp_path: Path) -> None:
    folder = tmp_path / "release"
    folder.mkdir()
    (folder / "step.onnx").write_bytes(b"serves")
    with pytest.raises(UsageError, match="exists already, and a release never changes"), claimed_folder(folder):
        pass
    assert (folder / "step.onnx").read_bytes() == b"serves"
