from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any, NoReturn

import pytest

from anabranch.kafka.log_identity import LogIdentity
from anabranch.messages import ReleaseNotice
from anabranch.release import DataWindow
from anabranch.release_notices import ReleaseNotices
from anabranch.settings import Settings
from models.retraining import job, run
from models.retraining.job import run_once
from models.retraining.run import JobConfig


class TrainingReached(Exception):
    """The run came as far as its training."""


def test_a_run_trains_beside_the_folder_of_a_release_whose_notice_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def record_folder(_: Any, folder: Path, **__: Any) -> NoReturn:
        trained_in.append(folder.name)
        raise TrainingReached

    trained_in: list[str] = []
    settings = Settings(data_dir=tmp_path)
    live = settings.releases_dir / "r0001" / "step.onnx"
    live.parent.mkdir(parents=True)
    live.write_bytes(b"serves")
    window = DataWindow(train_from=0, order_from=1, gate_from=2, gate_to=3, events=0)
    notices = ReleaseNotices()
    notices.add(ReleaseNotice(release="by-hand", status="retired", ts=1, location="by-hand", manifest_sha256=""))
    monkeypatch.setattr(job, "read_release_notices", lambda settings: notices)
    monkeypatch.setattr(LogIdentity, "read", lambda *_: LogIdentity(cluster_id="c", topic_prefix="", topic_ids={}))
    monkeypatch.setattr(job, "_collect", lambda *_: 0)
    monkeypatch.setattr(run, "_read_catalogue", lambda *_: [])
    monkeypatch.setattr(run, "split_windows", lambda *_: window)
    monkeypatch.setattr(run, "require_users", lambda *_: None)
    monkeypatch.setattr(run, "make_release_candidate", record_folder)

    with pytest.raises(TrainingReached):
        run_once(settings, JobConfig(), lambda name, total: nullcontext(lambda n: None))

    assert trained_in == ["r0002"]
    assert live.read_bytes() == b"serves"
