"""What a demo streams: how much history, which stretches, and where the re-sharing job runs."""

from __future__ import annotations

from dataclasses import dataclass

from anabranch.errors import UsageError

LAST_WEEK = 53
PACED_SHARE = 0.2
PACED_AT_MOST = 8_000


@dataclass(frozen=True)
class Plan:
    """Weeks are the data's own, 1 to 53; stretches are replayed one after the other, a re-share between each two."""

    history: tuple[int, int]
    """First and last week that stand in the log before the ranker starts."""
    stretches: tuple[tuple[int, int], ...]
    """First and last week of each."""
    households: int | None = None
    """Only this many households, drawn with the seed; None: all."""

    @property
    def weeks(self) -> tuple[int, int]:
        """First and last week of all."""
        return self.history[0], self.stretches[-1][1]


def make_plan(history_weeks: int, replay_weeks: int, reshare_every: int, households: int | None) -> Plan:
    """Replay in stretches of `reshare_every` weeks. Raises `UsageError` beyond the data's last week."""
    first, last = history_weeks + 1, history_weeks + replay_weeks
    if last > LAST_WEEK:
        raise UsageError(
            f"--history-weeks {history_weeks} and --replay-weeks {replay_weeks} go beyond week {LAST_WEEK}, "
            "the data's last: shorten one"
        )
    starts = range(first, last + 1, reshare_every)
    stretches = tuple((start, min(start + reshare_every - 1, last)) for start in starts)
    return Plan((1, history_weeks), stretches, households)


def paced(events: int) -> int:
    """How many of the last stretch's events are kept for the paced end."""
    return min(int(events * PACED_SHARE), PACED_AT_MOST)
