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
from models.retraining.windows import NotEnoughNewData
from models.stages import Advance, Bar, Stopped, stoppable


def no_bar(name: str, total: int | None) -> AbstractContextManager[Advance]:
    return nullcontext(lambda n: None)


@pytest.fixture(params=[NotEnoughNewData, NotEnoughData])
def too_little(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Every run finds too little data, and is the last: the stop it sets."""
    stop = threading.Event()

    def run_once(*_: object) -> None:
        stop.set()
        raise request.param("2.0 days of events are new")

    monkeypatch.setattr(schedule, "run_once", run_once)
    return stop


def test_a_run_that_finds_too_little_waits_for_the_next_and_counts_as_a_run(too_little: threading.Event) -> None:
    registry = CollectorRegistry()
    schedule.Schedule(Settings(), JobConfig(), ReshareMetrics(registry), no_bar, every_s=60).run(too_little)
    assert registry.get_sample_value("anabranch_reshare_runs_total", {"outcome": "waiting"}) == 1
    assert registry.get_sample_value("anabranch_reshare_last", {"outcome": "waiting"}) == 1


def test_a_single_run_that_finds_too_little_fails(too_little: threading.Event) -> None:
    with pytest.raises(NotEnoughData):
        schedule.Schedule(Settings(), JobConfig(), ReshareMetrics(CollectorRegistry()), no_bar, None).run(too_little)


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
    registry = CollectorRegistry()
    job = schedule.Schedule(Settings(data_dir=tmp_path), JobConfig(), ReshareMetrics(registry), no_bar, every_s=0.01)
    (tmp_path / "releases").mkdir()
    job.run(stop)
    assert len(runs) == 2
    assert registry.get_sample_value("anabranch_reshare_runs_total", {"outcome": "failed"}) == 1
    (record,) = [record for record in caplog.records if record.levelname == "ERROR"]
    assert re.search(line, record.getMessage()) and "\n" not in record.getMessage()

    runs.clear()
    with pytest.raises(FolderInUse if isinstance(error, FolderInUse) else OutOfResources):
        replace(job, every_s=None).run(threading.Event())


def test_a_defect_ends_the_job(monkeypatch: pytest.MonkeyPatch) -> None:
    def run_once(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(schedule, "run_once", run_once)
    with pytest.raises(ZeroDivisionError):
        schedule.Schedule(Settings(), JobConfig(), ReshareMetrics(CollectorRegistry()), no_bar, 60).run(
            threading.Event()
        )


def test_a_run_ends_at_its_first_step_after_the_stop_and_is_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    stop, steps = threading.Event(), list[int]()

    def run_once(settings: Settings, config: JobConfig, bar: Bar, *_: object) -> None:
        with bar("Train", 100) as advance:
            for step in range(100):
                advance(1)
                steps.append(step)
                if step == 2:
                    stop.set()

    monkeypatch.setattr(schedule, "run_once", run_once)
    registry = CollectorRegistry()
    schedule.Schedule(Settings(), JobConfig(), ReshareMetrics(registry), no_bar, every_s=60).run(stop)
    assert steps == [0, 1, 2]
    assert registry.get_sample_value("anabranch_reshare_runs_total", {"outcome": "failed"}) is None


def test_a_stopped_run_begins_no_further_stage() -> None:
    stop = threading.Event()
    bar = stoppable(no_bar, stop.is_set)
    with bar("Collect", None):
        stop.set()
    with pytest.raises(Stopped), bar("Train", None):
        pass
