from __future__ import annotations

import threading
from contextlib import AbstractContextManager, nullcontext

import pytest
from prometheus_client import CollectorRegistry

from anabranch.metrics import ReshareMetrics
from anabranch.settings import Settings
from models.data.event_log import NotEnoughData
from models.retraining import schedule
from models.retraining.run import JobConfig
from models.retraining.windows import NotEnoughNewData
from models.stages import Advance


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
