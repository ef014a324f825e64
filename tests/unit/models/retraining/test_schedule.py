from __future__ import annotations

import errno
import re
import threading
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from anabranch.metrics import ReshareMetrics
from anabranch.settings import Settings
from models.data.event_log import NotEnoughData
from models.retraining import schedule
from models.retraining.folder_lock import FolderInUse
from models.retraining.resources import OutOfResources
from models.retraining.run import JobConfig
from models.retraining.run_history import RunHistory
from models.retraining.windows import NotEnoughNewData
from models.stages import Advance, Bar, Stopped, stoppable


def no_bar(name: str, total: int | None) -> AbstractContextManager[Advance]:
    return nullcontext(lambda n: None)


class Job:
    """A process of the job, on one folder for all."""

    def __init__(self, folder: Path, every_s: float | None = 60) -> None:
        self.registry = CollectorRegistry()
        self.metrics = ReshareMetrics(self.registry)
        self.schedule = schedule.Schedule(Settings(data_dir=folder), JobConfig(), self.metrics, no_bar, every_s)

    def value(self, name: str, outcome: str) -> float | None:
        return self.registry.get_sample_value(f"anabranch_reshare_{name}", {"outcome": outcome})


@pytest.fixture(params=[NotEnoughNewData, NotEnoughData])
def too_little(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Every run finds too little data, and is the last: the stop it sets."""
    stop = threading.Event()

    def run_once(*_: object) -> None:
        stop.set()
        raise request.param("2.0 days of events are new")

    monkeypatch.setattr(schedule, "run_once", run_once)
    return stop


def test_a_run_that_finds_too_little_waits_for_the_next_and_counts_as_a_run(
    too_little: threading.Event, tmp_path: Path
) -> None:
    job = Job(tmp_path)
    job.schedule.run(too_little)
    assert job.value("runs_total", "waiting") == 1
    assert job.value("last", "waiting") == 1


def test_a_single_run_that_finds_too_little_fails(too_little: threading.Event, tmp_path: Path) -> None:
    with pytest.raises(NotEnoughData):
        Job(tmp_path, every_s=None).schedule.run(too_little)
    assert Job(tmp_path).value("last", "failed") is None, "shown once it runs"


@pytest.mark.parametrize("error", [ZeroDivisionError(), OSError("input/output error")])
def test_a_run_that_crashes_is_what_the_next_process_shows_while_it_runs(
    error: BaseException, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(*_: object) -> None:
        raise error

    monkeypatch.setattr(schedule, "run_once", crash)
    with pytest.raises(type(error)):
        Job(tmp_path).schedule.run(threading.Event())

    restarted = Job(tmp_path, every_s=None)
    shown: list[float | None] = []

    def look(*_: object) -> None:
        shown.append(restarted.value("last", "failed"))
        raise NotEnoughData("nothing is new")

    monkeypatch.setattr(schedule, "run_once", look)
    with pytest.raises(NotEnoughData):
        restarted.schedule.run(threading.Event())
    assert shown == [1]
    assert restarted.value("last", "failed") == 0
    assert restarted.value("last", "waiting") == 1


def test_a_run_that_the_operator_interrupts_did_not_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(schedule, "run_once", interrupted)
    job = Job(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        job.schedule.run(threading.Event())
    assert job.value("last", "failed") == 0
    assert job.value("runs_total", "failed") == 0
    next_process = Job(tmp_path)
    RunHistory.open(Settings(data_dir=tmp_path), next_process.metrics)
    assert next_process.value("last", "failed") == 0


def test_every_step_that_a_progress_bar_shows_is_a_beat_of_the_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = Job(tmp_path, every_s=None)
    beats: list[str] = []
    stage = "opened"

    def run_once(settings: Settings, config: JobConfig, bar: Bar, *_: object) -> None:
        nonlocal stage
        with bar("Train", 2) as advance:
            stage = "advanced"
            advance(1)
        raise NotEnoughData("enough")

    monkeypatch.setattr(schedule, "run_once", run_once)
    monkeypatch.setattr(job.metrics.loop, "beat", lambda: beats.append(stage))
    with pytest.raises(NotEnoughData):
        job.schedule.run(threading.Event())
    assert "advanced" in beats
    assert beats.count("opened") > 1


def test_a_job_that_waits_for_its_next_run_is_not_stuck(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schedule, "BEAT_INTERVAL_S", 0.01)
    monkeypatch.setattr(schedule, "run_once", lambda *_: (_ for _ in ()).throw(NotEnoughData("nothing is new")))
    job, stop, beats = Job(tmp_path), threading.Event(), 0

    def beat() -> None:
        nonlocal beats
        beats += 1
        if beats == 5:
            stop.set()

    monkeypatch.setattr(job.metrics.loop, "beat", beat)
    job.schedule.run(stop)
    assert beats >= 5
    assert job.value("runs_total", "waiting") == 1


FULL = OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (FULL, r"tries again in 0\.01 seconds: the disk is full, .* MiB free for .*: make room\. OSError: "),
        (
            RuntimeError("DefaultCPUAllocator: can't allocate memory: 2 GB"),
            "there is not enough memory: give the process",
        ),
        (FolderInUse("process 7 on host re-shares"), "process 7 on host re-shares"),
    ],
    ids=["full disk", "no memory", "in use"],
)
def test_a_run_that_fails_for_a_cause_that_may_pass_is_said_in_a_line_and_followed_by_the_next(
    error: Exception, line: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    runs: list[int] = []
    stop = threading.Event()

    def run_once(*_: object) -> None:
        runs.append(1)
        if len(runs) == 2:
            stop.set()
            raise NotEnoughData("no events")
        raise error

    monkeypatch.setattr(schedule, "run_once", run_once)
    job = Job(tmp_path, every_s=0.01)
    (tmp_path / "releases").mkdir()
    job.schedule.run(stop)
    assert len(runs) == 2
    assert job.value("runs_total", "failed") == (not isinstance(error, FolderInUse))
    (record,) = [record for record in caplog.records if record.levelname == "ERROR"]
    assert re.search(line, record.getMessage()) and "\n" not in record.getMessage()

    runs.clear()
    with pytest.raises(FolderInUse if isinstance(error, FolderInUse) else OutOfResources):
        replace(job.schedule, every_s=None).run(threading.Event())


def test_a_defect_ends_the_job(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def run_once(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(schedule, "run_once", run_once)
    with pytest.raises(ZeroDivisionError):
        Job(tmp_path).schedule.run(threading.Event())


def test_a_run_ends_at_its_first_step_after_the_stop_and_is_no_failure(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    stop, steps = threading.Event(), list[int]()

    def run_once(settings: Settings, config: JobConfig, bar: Bar, *_: object) -> None:
        with bar("Train", 100) as advance:
            for step in range(100):
                advance(1)
                steps.append(step)
                if step == 2:
                    stop.set()

    monkeypatch.setattr(schedule, "run_once", run_once)
    job = Job(tmp_path)
    job.schedule.run(stop)
    assert steps == [0, 1, 2]
    assert job.value("runs_total", "failed") == 0


def test_a_stopped_run_begins_no_further_stage() -> None:
    stop = threading.Event()
    bar = stoppable(no_bar, stop.is_set)
    with bar("Collect", None):
        stop.set()
    with pytest.raises(Stopped), bar("Train", None):
        pass
