"""Outcomes of runs outlive the process that ran them."""

from __future__ import annotations

from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from anabranch.errors import UsageError
from anabranch.metrics import ReshareMetrics
from anabranch.settings import Settings
from models.retraining.folder_lock import lock_path, locked
from models.retraining.run_history import RunHistory, history_path
from tests.support.full_disk import files_up_to
from tests.support.in_memory_kafka import ManualClock


class Job:
    """One process of the job: its metrics go with it."""

    def __init__(self, settings: Settings, clock: ManualClock) -> None:
        self.registry = CollectorRegistry()
        self.metrics = ReshareMetrics(self.registry)
        self.history = RunHistory.open(settings, self.metrics, lambda: clock.seconds)

    def ended_at(self, outcome: str) -> float | None:
        return self.registry.get_sample_value("anabranch_reshare_timestamp_seconds", {"outcome": outcome})

    def last(self) -> list[str]:
        """The outcomes that are 1."""
        value = self.registry.get_sample_value
        return [name for name in self.metrics.OUTCOMES if value("anabranch_reshare_last", {"outcome": name})]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path)


def test_a_new_installation_has_no_outcome_and_is_ready(settings: Settings) -> None:
    job = Job(settings, ManualClock())
    assert job.last() == []
    assert [job.ended_at(outcome) for outcome in job.metrics.OUTCOMES] == [0, 0, 0, 0]
    assert job.metrics.loop.not_ready is None


def test_the_next_process_shows_how_the_last_run_ended_before_it_runs_itself(settings: Settings) -> None:
    clock = ManualClock()
    first = Job(settings, clock)
    first.history.begin()
    first.history.end("live")
    clock.advance(60)
    first.history.begin()
    first.history.end("failed")

    clock.advance(60)
    second = Job(settings, clock)
    assert second.last() == ["failed"]
    assert second.ended_at("failed") == clock.seconds - 60
    assert second.ended_at("live") == clock.seconds - 120
    assert second.metrics.loop.not_ready == "the last run failed"


def test_a_run_that_was_killed_counts_as_failed_at_the_next_start(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    clock = ManualClock()
    Job(settings, clock).history.begin()
    clock.advance(60)
    restarted = Job(settings, clock)
    assert restarted.last() == ["failed"]
    assert restarted.ended_at("failed") == clock.seconds
    assert "it counts as failed" in caplog.text


def test_a_killed_run_counts_once(settings: Settings) -> None:
    clock = ManualClock()
    Job(settings, clock).history.begin()
    found_at = clock.seconds
    Job(settings, clock)
    clock.advance(60)
    assert Job(settings, clock).ended_at("failed") == found_at


def test_a_run_that_was_given_up_because_the_process_stops_has_no_outcome(settings: Settings) -> None:
    job = Job(settings, ManualClock())
    job.history.begin()
    job.history.abandon()
    assert Job(settings, ManualClock()).last() == []


def test_the_first_start_is_kept(settings: Settings) -> None:
    clock = ManualClock()
    first_start_s = Job(settings, clock).history.record.first_start_s
    clock.advance(60)
    assert Job(settings, clock).history.record.first_start_s == first_start_s


def test_two_installations_in_one_folder_have_histories_of_their_own(tmp_path: Path) -> None:
    clock = ManualClock()
    Job(Settings(data_dir=tmp_path, topic_prefix="a."), clock).history.end("failed")
    assert Job(Settings(data_dir=tmp_path, topic_prefix="b."), clock).last() == []


@pytest.mark.parametrize("content", [b"", b"{", b'{"first_start_s": "yesterday"}'])
def test_a_damaged_file_is_an_error_that_names_it_and_the_remedy(settings: Settings, content: bytes) -> None:
    path = history_path(settings)
    path.parent.mkdir()
    path.write_bytes(content)
    with pytest.raises(UsageError, match=f"{path} is damaged .*: remove it"):
        Job(settings, ManualClock())


def test_a_run_that_another_process_is_at_work_on_did_not_fail(settings: Settings) -> None:
    running, beside = ManualClock(), ManualClock()
    with locked(lock_path(settings), "re-shares"):
        first = Job(settings, running)
        first.history.begin()
        second = Job(settings, beside)
        assert second.last() == []
        first.history.end("live")
    assert Job(settings, running).last() == ["live"]


def test_a_run_that_another_process_has_had_meanwhile_is_not_forgotten(settings: Settings) -> None:
    service, once = Job(settings, ManualClock()), Job(settings, ManualClock())
    once.history.begin()
    once.history.end("live")
    service.history.begin()
    service.history.end("waiting")
    assert service.ended_at("live") == once.ended_at("live") != 0


def test_without_room_for_the_file_the_outcome_is_shown_and_said(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    job = Job(settings, ManualClock())
    with files_up_to(10):
        job.history.end("failed")
    assert job.last() == ["failed"]
    assert "runs.json cannot be written: File too large" in caplog.text
