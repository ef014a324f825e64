"""How much of a published co-visit table the next one keeps: a sudden change is a fault, or somebody's doing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from anabranch.messages import Neighbours
from models.metrics.bootstrap import Interval

TOP = 10
"""Neighbours of an item that are compared: the strongest, which are shown most."""


class TableChange(NamedTuple):
    """What a new co-visit table does to the published one."""

    kept: float | None
    """See `kept_share`."""
    unusual_users: int
    """Users who were left out: see `models.data.unusual_users`."""
    harm: Interval | None = None
    """What it would do to the NDCG@20 of the release that serves, if that is significantly lower with it. Then it is
    held back: the published table stays."""

    def __str__(self) -> str:
        users = "1 user is" if self.unusual_users == 1 else f"{self.unusual_users:,} users are"
        left_out = f"{users} left out, for days of more activity than a person has" if self.unusual_users else ""
        kept = "" if self.kept is None else f"{self.kept:.0%} of the strongest published neighbours remain"
        held_back = "" if self.harm is None else f"it is held back: {_harm_text(self.harm)}"
        return "; ".join(filter(None, (held_back, kept, left_out))) or "there is no earlier table to compare with"


def _harm_text(harm: Interval) -> str:
    return (
        f"with it the NDCG@20 of the live release would change by {harm.difference:+.4f} "
        f"[{harm.low:+.4f}, {harm.high:+.4f}]"
    )


def kept_share(published: Mapping[str, Neighbours], table: Iterable[Neighbours]) -> float | None:
    """The share of the strongest published neighbours that are among the strongest of the new table, 0 to 1.

    `published` has the rows by item, the strongest neighbours first. Items count by their popularity in the new table.
    None if no item of some popularity has neighbours in both.
    """
    kept = weight = 0.0
    for row in table:
        before = _strongest(published[row.item_id]) if row.item_id in published else set()
        if before:
            kept += row.popularity * len(_strongest(row) & before) / len(before)
            weight += row.popularity
    return kept / weight if weight else None


def _strongest(row: Neighbours) -> set[str]:
    return {neighbour.item_id for neighbour in row.neighbours[:TOP]}
