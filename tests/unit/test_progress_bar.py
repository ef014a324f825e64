"""Progress where the output is no terminal: plain lines, at least one every ten seconds."""

from __future__ import annotations

import time
from io import StringIO

import pytest
from rich.console import Console

from anabranch.progress_bar import LINE_INTERVAL_S, PERCENT, PlainProgress, bar
from models.stages import Stages, bar_by_stage
from models.training_curves import no_curve


class Clock:
    """Time stands still until a test sets it."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


class Log:
    """What a log or a pipe gets."""

    def __init__(self) -> None:
        self._file = StringIO()
        self.console = Console(file=self._file, width=20)

    @property
    def lines(self) -> list[str]:
        return self._file.getvalue().splitlines()

    def await_lines(self, count: int) -> None:
        deadline = time.monotonic() + 10
        while len(self.lines) < count:
            assert time.monotonic() < deadline, self.lines
            time.sleep(0.005)


@pytest.fixture
def log() -> Log:
    return Log()


@pytest.mark.parametrize(
    ("total", "done", "line"),
    [
        (5_000, 1_234, "Rank: 1,234 of 5,000 (24 %), 20 s"),
        (5_000, 0, "Rank: 0 of 5,000 (0 %), 20 s"),
        (None, 1_234, "Rank: 1,234, 20 s"),
        (None, 0, "Rank: 20 s"),
        (0, 0, "Rank: 20 s"),
        (PERCENT, 25, "Rank: 25 %, 20 s"),
    ],
)
def test_a_line_says_how_far_the_work_is_and_for_how_long_it_runs(total: int | None, done: int, line: str) -> None:
    clock = Clock()
    progress = PlainProgress("Rank", total, clock)
    progress.advance(done)
    clock.seconds += 20.4
    assert progress.running() == line


@pytest.mark.parametrize(
    ("total", "done", "line"),
    [
        (5_000, 5_000, "Rank: finished, 5,000 in 56.8 s"),
        (5_000, 4_321, "Rank: finished, 4,321 of 5,000 in 56.8 s"),
        (5_000, 0, "Rank: finished in 56.8 s"),
        (None, 1_234, "Rank: finished, 1,234 in 56.8 s"),
        (None, 0, "Rank: finished in 56.8 s"),
        (PERCENT, 86, "Rank: finished in 56.8 s"),
    ],
)
def test_the_last_line_says_that_the_work_is_finished(total: int | None, done: int, line: str) -> None:
    clock, log = Clock(), Log()
    with bar("Rank", total, log.console, monotonic=clock) as advance:
        advance(done)
        clock.seconds += 56.84
    assert log.lines == [line]


@pytest.mark.parametrize(
    ("total", "line"),
    [
        (5_000, "Rank: failed at 20 of 5,000 (0 %), after 3.0 s"),
        (None, "Rank: failed at 20, after 3.0 s"),
        (PERCENT, "Rank: failed at 20 %, after 3.0 s"),
    ],
)
@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_work_that_an_error_or_a_signal_ends_is_no_finished_work(
    total: int | None, line: str, error: type[BaseException], log: Log
) -> None:
    clock = Clock()
    with pytest.raises(error), bar("Rank", total, log.console, monotonic=clock) as advance:
        advance(20)
        clock.seconds += 3
        raise error
    assert log.lines == [line]


def test_lines_come_while_the_work_reports_nothing(log: Log) -> None:
    assert LINE_INTERVAL_S <= 10
    clock = Clock()
    with bar("Embed", 300, log.console, interval_s=0.01, monotonic=clock) as advance:
        log.await_lines(1)
        advance(100)
        clock.seconds += 12
        before = len(log.lines)
        log.await_lines(before + 2)  # the line that was being printed meanwhile, and one after it
    assert log.lines[0] == "Embed: 0 of 300 (0 %), 0 s"
    assert log.lines[-2:] == ["Embed: 100 of 300 (33 %), 12 s", "Embed: finished, 100 of 300 in 12.0 s"]


def test_no_line_comes_after_the_last_one(log: Log) -> None:
    with bar("Embed", 3, log.console, interval_s=0.01):
        log.await_lines(2)
    count = len(log.lines)
    time.sleep(0.05)
    assert len(log.lines) == count


def test_a_title_is_printed_as_it_is_and_on_one_line(log: Log) -> None:
    with bar("Replay part [1] of a folder with a long name.parquet", 1, log.console, monotonic=Clock()) as advance:
        advance(1)
    assert log.lines == ["Replay part [1] of a folder with a long name.parquet: finished, 1 in 0.0 s"]


def test_each_stage_is_finished_when_the_next_begins_whatever_share_it_reported(log: Log) -> None:
    clock = Clock()
    with bar_by_stage(lambda title, total: bar(title, total, log.console, monotonic=clock)) as progress:
        stages = Stages(progress, no_curve)
        with stages("encoder") as done:
            done(0.865)
            clock.seconds += 2
        with stages("what the seeds know"):
            clock.seconds += 56.8
    assert log.lines == ["Encoder: finished in 2.0 s", "Compare seed models: finished in 56.8 s"]


def test_a_stage_that_fails_says_at_how_many_percent(log: Log) -> None:
    clock = Clock()
    with (
        pytest.raises(ValueError, match="no data"),
        bar_by_stage(lambda title, total: bar(title, total, log.console, monotonic=clock)) as progress,
        Stages(progress, no_curve)("encoder") as done,
    ):
        done(0.4)
        raise ValueError("no data")
    assert log.lines == ["Encoder: failed at 40 %, after 0.0 s"]


def test_a_stage_is_complete_on_a_terminal_once_it_has_ended() -> None:
    console = Console(file=StringIO(), force_terminal=True, width=100, record=True)
    with bar("Encoder", PERCENT, console) as advance:
        advance(86)
    last_line = console.export_text().splitlines()[-1]
    assert "100%" in last_line and "86" not in last_line
