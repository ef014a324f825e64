"""Lists beside the history: what a user was shown and has not taken, and what a user dislikes. Compiled."""

from __future__ import annotations

from anabranch.ranking.jit import compiled_inline
from anabranch.ranking.types import Rows
from anabranch.ranking.user_state.columns import ActivityColumns

MAX_COUNT = 255
"""Counts are uint8, and stay at this."""
NO_ITEM = -1


@compiled_inline
def count_shown(columns: ActivityColumns, slot: int, item: int, second: int) -> None:
    """The user in a slot was shown an item; if the list has no room for a new one, that shown longest ago is replaced.

    Nothing is counted that is not newer than what it would count with or replace: so an impression that comes twice, or
    on several placements of a page, counts once, and one page does not displace itself. An item whose id is refused
    (`NO_ITEM`) is passed over.
    """
    size = columns.shown_item.shape[1]
    if item == NO_ITEM or size == 0:
        return
    chosen = 0  # the entry of the item, or else the oldest
    for entry in range(size):
        if columns.shown_item[slot, entry] == item:
            chosen = entry
            break
        if columns.shown_s[slot, entry] < columns.shown_s[slot, chosen]:
            chosen = entry
    if second <= columns.shown_s[slot, chosen]:
        return
    count = columns.shown_count[slot, chosen] if columns.shown_item[slot, chosen] == item else 0
    columns.shown_item[slot, chosen], columns.shown_s[slot, chosen] = item, second
    columns.shown_count[slot, chosen] = min(count + 1, MAX_COUNT)


@compiled_inline
def forget_shown(columns: ActivityColumns, slot: int, item: int) -> None:
    """The user in a slot has taken an interest in an item: what was shown of it before counts no more."""
    for entry in range(columns.shown_item.shape[1]):
        if columns.shown_item[slot, entry] == item:
            columns.shown_item[slot, entry], columns.shown_count[slot, entry] = NO_ITEM, 0
            columns.shown_s[slot, entry] = 0


@compiled_inline
def add_disliked(columns: ActivityColumns, slot: int, item: int) -> None:
    """The user in a slot dislikes an item; if the list is full, that disliked longest ago is forgotten."""
    disliked = columns.disliked_item[slot]
    if item == NO_ITEM:
        return
    remove_disliked(columns, slot, item)
    filled = _filled(disliked)
    if filled == len(disliked):
        remove_disliked(columns, slot, disliked[0])
        filled -= 1
    disliked[filled] = item


@compiled_inline
def remove_disliked(columns: ActivityColumns, slot: int, item: int) -> None:
    """The user in a slot dislikes an item no more; those after it move up."""
    disliked, filled = columns.disliked_item[slot], 0
    for entry in range(len(disliked)):
        if disliked[entry] != item:
            disliked[filled] = disliked[entry]
            filled += 1
    disliked[filled:] = NO_ITEM


@compiled_inline
def _filled(items: Rows) -> int:
    """How many entries of a list without holes have an item."""
    filled = 0
    while filled < len(items) and items[filled] != NO_ITEM:
        filled += 1
    return filled
