"""What a demo replays, in weeks of the data: the history, then segments with a re-share before each but the first."""

from __future__ import annotations

from dataclasses import dataclass

from anabranch.errors import UsageError

LAST_WEEK = 53
PACED_SHARE = 0.2
MAX_PACED_EVENTS = 8_000

Weeks = tuple[int, int]
"""First and last week, both included, from 1 to 53."""


@dataclass(frozen=True)
class DemoSchedule:
    """The weeks of a demo."""

    history: Weeks
    """Published before the ranker starts; the first release learns from them."""
    segments: tuple[Weeks, ...]
    """Replayed one after the other."""
    households: int | None = None
    """Only this many households, drawn with the random seed; None: all."""

    @property
    def weeks(self) -> Weeks:
        """The first week of the history and the last of all segments."""
        return self.history[0], self.segments[-1][1]


def make_schedule(history_weeks: int, replay_weeks: int, reshare_every: int, households: int | None) -> DemoSchedule:
    """Segments of `reshare_every` weeks. Raises `UsageError` beyond the last week of the data."""
    first, last = history_weeks + 1, history_weeks + replay_weeks
    if last > LAST_WEEK:
        raise UsageError(
            f"--history-weeks {history_weeks} and --replay-weeks {replay_weeks} end after week {LAST_WEEK}, "
            "the last of the data: shorten one"
        )
    starts = range(first, last + 1, reshare_every)
    segments = tuple((start, min(start + reshare_every - 1, last)) for start in starts)
    return DemoSchedule((1, history_weeks), segments, households)


def count_paced(events: int) -> int:
    """How many events of the last segment, which has `events`, are held back for the latency measurement."""
    return min(int(events * PACED_SHARE), MAX_PACED_EVENTS)
