"""How much of a published co-visit table the next one keeps: a sudden change is a fault, or somebody's doing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from anabranch.messages import Neighbours

TOP = 10
"""Neighbours of an item that are compared: the strongest, which are shown most."""


class TableChange(NamedTuple):
    """What a new co-visit table does to the published one."""

    kept: float | None
    """See `kept_share`."""
    unusual_users: int
    """Users who were left out: see `models.data.unusual_users`."""

    def __str__(self) -> str:
        users = "1 user is" if self.unusual_users == 1 else f"{self.unusual_users:,} users are"
        left_out = f"{users} left out, for days of more activity than a person has" if self.unusual_users else ""
        kept = "" if self.kept is None else f"{self.kept:.0%} of the strongest published neighbours remain"
        return "; ".join(filter(None, (kept, left_out))) or "there is no earlier table to compare with"


def kept_share(published: Mapping[str, Sequence[str]], table: Iterable[Neighbours]) -> float | None:
    """The share of the strongest published neighbours that are among the strongest of the new table, 0 to 1.

    `published` has the ids of each item's neighbours, strongest first. Items count by their popularity in the new
    table. None if no item of some popularity has neighbours in both.
    """
    kept = weight = 0.0
    for row in table:
        before = published.get(row.item_id, ())[:TOP]
        if before:
            now = {neighbour.item_id for neighbour in row.neighbours[:TOP]}
            kept += row.popularity * len(now.intersection(before)) / len(before)
            weight += row.popularity
    return kept / weight if weight else None
