"""The items that user states contain: found, and renumbered. Compiled."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from anabranch.ranking.jit import compiled, compiled_inline
from anabranch.ranking.types import Mask, Rows, Slots
from anabranch.ranking.user_state.block_pool import BLOCK_SIZE, Blocks
from anabranch.ranking.user_state.user_lists import UserMemory


@compiled
def mark_items(memory: UserMemory, slots: Slots, history_length: int, first: int, in_use: Mask) -> None:
    """Mark in `in_use` [n] the items `first` to `first` + n - 1 that the states in the slots contain."""
    columns, history, long_term = memory.columns, memory.history, memory.long_term
    for n in range(len(slots)):
        slot = slots[n]
        filled = min(columns.event_count[slot], history_length)
        _mark_list(history.item, history.next_block, columns.history_block[slot], filled, first, in_use)
        filled, block = columns.long_term_size[slot], columns.long_term_block[slot]
        _mark_list(long_term.item, long_term.next_block, block, filled, first, in_use)
        _mark_row(columns.slate[slot], first, in_use)
        _mark_row(columns.shown_item[slot], first, in_use)
        _mark_row(columns.disliked_item[slot], first, in_use)


@compiled_inline
def _mark_list(item: Rows, next_block: Blocks, block: int, filled: int, first: int, in_use: Mask) -> None:
    for index in range(filled):
        entry = index % BLOCK_SIZE
        if index > 0 and entry == 0:
            block = next_block[block]
        if item[block, entry] >= first:
            in_use[item[block, entry] - first] = True


@compiled_inline
def _mark_row(items: Rows, first: int, in_use: Mask) -> None:
    for item in items:
        if item >= first:
            in_use[item - first] = True


@compiled
def renumber_items(items: Rows, first: int, new: NDArray[np.int32]) -> None:
    """Replace in `items` [P, k] each item `first` + n by `new[n]`, unless that is -1."""
    for row in range(items.shape[0]):
        for entry in range(items.shape[1]):
            n = items[row, entry] - first
            if 0 <= n < len(new) and new[n] >= 0:
                items[row, entry] = new[n]
