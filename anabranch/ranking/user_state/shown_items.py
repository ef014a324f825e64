"""What users were shown and have not taken since: a bounded list of items each, with counts. Compiled."""

from __future__ import annotations

from anabranch.ranking.jit import compiled_inline
from anabranch.ranking.user_state.columns import ActivityColumns

MAX_COUNT = 255
"""Counts are uint8, and stay at this."""
NO_ITEM = -1


@compiled_inline
def count_shown(columns: ActivityColumns, slot: int, item: int, second: int) -> None:
    """The user in a slot was shown an item; if the list has no room for a new one, that shown longest ago is replaced.

    An item that is not known (`NO_ITEM`) is passed over.
    """
    size = columns.shown_item.shape[1]
    if item == NO_ITEM or size == 0:
        return
    oldest = 0
    for entry in range(size):
        if columns.shown_item[slot, entry] == item:
            columns.shown_count[slot, entry] = min(columns.shown_count[slot, entry] + 1, MAX_COUNT)
            columns.shown_s[slot, entry] = max(columns.shown_s[slot, entry], second)
            return
        if columns.shown_s[slot, entry] < columns.shown_s[slot, oldest]:
            oldest = entry
    columns.shown_item[slot, oldest], columns.shown_count[slot, oldest] = item, 1
    columns.shown_s[slot, oldest] = second


@compiled_inline
def forget_shown(columns: ActivityColumns, slot: int, item: int) -> None:
    """The user in a slot has taken an interest in an item: what was shown of it before counts no more."""
    for entry in range(columns.shown_item.shape[1]):
        if columns.shown_item[slot, entry] == item:
            columns.shown_item[slot, entry], columns.shown_count[slot, entry] = NO_ITEM, 0
            columns.shown_s[slot, entry] = 0
