"""How much is kept per user."""

from __future__ import annotations

from typing import NamedTuple

from anabranch.settings import Settings

WEEK_S = 7 * 24 * 3600


class StateLayout(NamedTuple):
    """Limits per user, so that memory is bounded. A tuple, since compiled functions read it.

    The settings are the only source of these numbers, so none has a default here: a figure computed with another layout
    than the rankers' would be that of another system.
    """

    history: int
    """Newest events kept, in a ring."""
    long_term_items: int
    """Items of older events, kept with decayed counts; the weakest makes room for a new one."""
    slate: int
    """Items of a slate; the last one of each placement is kept."""
    placements: tuple[str, ...]
    """Their names; the first one's slate is the `slate` of a ranking."""
    recent_events: int
    """Event ids remembered to find duplicates."""
    impression_items: int
    """Items of impressions kept; 0 where no placement rotates."""
    disliked_items: int
    """Items kept that the user does not want to see again."""
    half_life_s: int = 8 * WEEK_S
    """Seconds after which the weight of an event is halved."""

    @property
    def keeps_shown(self) -> bool:
        """Whether there is room for the items of impressions."""
        return self.impression_items > 0

    @classmethod
    def from_settings(cls, settings: Settings) -> StateLayout:
        """The layout that the settings describe."""
        return cls(
            history=settings.history_length,
            long_term_items=settings.own_items,
            slate=settings.slate_size,
            placements=tuple(placement.name for placement in settings.placements),
            recent_events=settings.dedupe_window,
            disliked_items=settings.disliked_items,
            impression_items=settings.impression_items
            if any(placement.rotation for placement in settings.placements)
            else 0,
        )
