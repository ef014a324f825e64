"""Events applied to user states one by one: session, history, long-term items. Compiled."""

from __future__ import annotations

import math

import numpy as np

from anabranch.event_types import READ_BY_ENCODERS
from anabranch.ranking.event_batch import IMPRESSION, BatchColumns, EventItems
from anabranch.ranking.jit import compiled, compiled_inline
from anabranch.ranking.types import Floats, Hashes, Mask, Positions, Slots
from anabranch.ranking.user_state.block_pool import BLOCK_SIZE, NO_BLOCK, allocate
from anabranch.ranking.user_state.columns import ActivityColumns
from anabranch.ranking.user_state.item_lists import add_disliked, count_shown, forget_shown, remove_disliked
from anabranch.ranking.user_state.layout import StateLayout
from anabranch.ranking.user_state.session import session_ends_compiled
from anabranch.ranking.user_state.snapshot import UserSnapshots
from anabranch.ranking.user_state.user_lists import UserMemory, read_long_term

LAST_SECOND = 2**32 - 1
"""In 2106, the last second that a state can hold; later times are stored as this one."""


@compiled
def mark_duplicates(recent_event: Hashes, dedupe_count: Positions, slots: Slots, keys: Hashes) -> Mask:
    """Which events [B] with these keys, in order, are among the last ones of their users in `recent_event` [U, n]. The
    others are remembered there, and counted in `dedupe_count` [U]."""
    duplicate, size = np.zeros(len(slots), np.bool_), recent_event.shape[1]
    for b in range(len(slots)):
        slot, key = slots[b], keys[b]
        for k in range(size):
            if recent_event[slot, k] == key:
                duplicate[b] = True
        if not duplicate[b]:
            recent_event[slot, dedupe_count[slot] % size] = key
            dedupe_count[slot] += 1
    return duplicate


def mark_duplicate_actions(columns: ActivityColumns, events: BatchColumns) -> Mask:
    """Which events [B], in order, are among the last ones of their users; the others are remembered.

    An impression is neither: what would count twice is not counted (`item_lists.count_shown`), and a page of them would
    leave no room for what the user did.
    """
    duplicate, actions = np.zeros(len(events.slots), np.bool_), events.types != IMPRESSION
    slots, keys = (events.slots, events.keys) if actions.all() else (events.slots[actions], events.keys[actions])
    duplicate[actions] = mark_duplicates(columns.recent_event, columns.dedupe_count, slots, keys)
    return duplicate


@compiled
def apply_events(
    memory: UserMemory,
    layout: StateLayout,
    events: BatchColumns,
    duplicate: Mask,  # [B]
    snapshot_row: Positions,  # [B] the snapshot to take right after the event, -1: none
    snapshots: UserSnapshots,  # output, except the vectors
) -> Floats:
    """Apply B events in order, except duplicates; returns the seconds [B] since each user's previous event, 0 at the
    first.

    An event without an item (a search) changes the session and the user's clock only; an impression, which the user did
    not cause, nothing but what the user was shown. Late events are applied in the order of the log; a user's clock
    never runs backwards.
    """
    elapsed_s, shown_end, disliked_end = np.zeros(len(events.slots), np.float32), 0, 0
    for b in range(len(events.slots)):
        shown_start, shown_end = shown_end, _end_of_event(events.shown, b, shown_end)
        disliked_start, disliked_end = disliked_end, _end_of_event(events.disliked, b, disliked_end)
        if duplicate[b]:
            continue
        slot, second = events.slots[b], min(events.ts[b] // 1000, LAST_SECOND)
        if events.types[b] == IMPRESSION:
            for index in range(shown_start, shown_end):
                item = events.shown.item[index]
                if not _is_taken_since(memory, layout, slot, item, second):
                    count_shown(memory.columns, slot, item, second)
        else:
            elapsed_s[b] = _update_session(memory.columns, events, b)
            if events.items[b] >= 0:
                _append_to_history(memory, layout, events, b)
                forget_shown(memory.columns, slot, events.items[b])
                remove_disliked(memory.columns, slot, events.items[b])
            for index in range(disliked_start, disliked_end):
                add_disliked(memory.columns, slot, events.disliked.item[index])
        if snapshot_row[b] >= 0:
            _take_snapshot(memory, slot, snapshot_row[b], snapshots)
    return elapsed_s


@compiled_inline
def _is_taken_since(memory: UserMemory, layout: StateLayout, slot: int, item: int, second: int) -> bool:
    """Whether the history has an event about the item, no earlier than this second."""
    if not layout.impression_items:
        return False
    columns, history, block = memory.columns, memory.history, memory.columns.history_block[slot]
    for index in range(min(columns.event_count[slot], layout.history)):
        entry = index % BLOCK_SIZE
        if index > 0 and entry == 0:
            block = history.next_block[block]
        if history.item[block, entry] == item and history.second[block, entry] >= second:
            return True
    return False


@compiled_inline
def _end_of_event(items: EventItems, b: int, start: int) -> int:
    """The end of the items of event b, of which `start` is the first."""
    end = start
    while end < len(items.event) and items.event[end] == b:
        end += 1
    return end


@compiled_inline
def _update_session(columns: ActivityColumns, events: BatchColumns, b: int) -> float:
    """Move the user's clock to event b, and end the session if it is over; returns the seconds since the last event."""
    slot = events.slots[b]
    last_ts, session, ts = columns.last_ts[slot], events.sessions[b], events.ts[b]
    if last_ts < 0 or session_ends_compiled(columns.session[slot], session, ts - last_ts, 0):
        columns.session_length[slot] = 0
    columns.session[slot] = session
    columns.last_ts[slot] = max(last_ts, ts)
    return max(ts - last_ts, 0) / 1000 if last_ts >= 0 else 0.0


@compiled_inline
def _append_to_history(memory: UserMemory, layout: StateLayout, events: BatchColumns, b: int) -> None:
    """Write event b to the user's ring. The event that it overwrites becomes a long-term one."""
    columns, history, slot = memory.columns, memory.history, events.slots[b]
    count = columns.event_count[slot]
    index = count % layout.history
    entry = index % BLOCK_SIZE
    block, previous = columns.history_block[slot], NO_BLOCK
    for _ in range(index // BLOCK_SIZE):
        previous, block = block, history.next_block[block]
    if count >= layout.history:
        _count_long_term(memory, layout, slot, history.item[block, entry], history.second[block, entry])
    elif entry == 0:
        block = allocate(history.next_block, history.free_list, previous)
        if index == 0:
            columns.history_block[slot] = block
    history.item[block, entry] = events.items[b]
    history.type[block, entry] = events.types[b] if events.types[b] < READ_BY_ENCODERS else 0
    history.second[block, entry] = min(events.ts[b] // 1000, LAST_SECOND)
    columns.event_count[slot] = count + 1
    columns.session_length[slot] = min(columns.session_length[slot] + 1, layout.history)


@compiled
def _count_long_term(memory: UserMemory, layout: StateLayout, slot: int, item: int, second: int) -> None:
    """Count an event among the user's long-term items; if there is no room for a new one, the weakest is replaced."""
    columns, long_term = memory.columns, memory.long_term
    size, found, weakest = columns.long_term_size[slot], False, np.float32(np.inf)
    next_block, last_block = columns.long_term_block[slot], NO_BLOCK
    block, entry = NO_BLOCK, 0  # of the item if it is found, or else of the weakest
    for index in range(size):
        if index % BLOCK_SIZE == 0:
            last_block, next_block = next_block, long_term.next_block[next_block]
        decayed = long_term.log2_decayed_count[last_block, index % BLOCK_SIZE]
        if long_term.item[last_block, index % BLOCK_SIZE] == item:
            found, block, entry = True, last_block, index % BLOCK_SIZE
            break
        if decayed < weakest:
            weakest, block, entry = decayed, last_block, index % BLOCK_SIZE
    event_log2 = np.float32(second / layout.half_life_s)
    if found:
        log2 = long_term.log2_decayed_count[block, entry]
        added = np.float32(math.log2(1 + 2.0 ** -abs(log2 - event_log2)))
        long_term.log2_decayed_count[block, entry] = max(log2, event_log2) + added
        long_term.event_count[block, entry] += 1
        long_term.last_s[block, entry] = max(long_term.last_s[block, entry], second)
        return
    if size < layout.long_term_items:
        entry = size % BLOCK_SIZE
        block = allocate(long_term.next_block, long_term.free_list, last_block) if entry == 0 else last_block
        if size == 0:
            columns.long_term_block[slot] = block
        columns.long_term_size[slot] = size + 1
    if block == NO_BLOCK:
        return  # the layout keeps no long-term items
    long_term.item[block, entry] = item
    long_term.log2_decayed_count[block, entry] = event_log2
    long_term.event_count[block, entry] = 1
    long_term.first_s[block, entry] = second
    long_term.last_s[block, entry] = second


@compiled
def take_snapshots(
    memory: UserMemory,
    slots: Slots,  # [n]
    snapshots: UserSnapshots,  # [n] output, except the vectors
) -> None:
    """Copy what ranking needs of users' states as they are now."""
    for row in range(len(slots)):
        _take_snapshot(memory, slots[row], row, snapshots)


@compiled_inline
def _take_snapshot(memory: UserMemory, slot: int, row: int, snapshots: UserSnapshots) -> None:
    """Copy what ranking needs of the user's state, except the vector."""
    columns, history, length = memory.columns, memory.history, snapshots.recent.shape[1]
    snapshots.now[row] = columns.last_ts[slot]
    snapshots.session_length[row] = columns.session_length[slot]
    count, block = columns.event_count[slot], columns.history_block[slot]
    for index in range(min(count, length)):
        entry = index % BLOCK_SIZE
        if index > 0 and entry == 0:
            block = history.next_block[block]
        back = (count - 1 - index) % length
        snapshots.recent[row, back] = history.item[block, entry]
        snapshots.recent_s[row, back] = history.second[block, entry]
    snapshots.shown_item[row] = columns.shown_item[slot]
    snapshots.shown_count[row] = columns.shown_count[slot]
    snapshots.shown_s[row] = columns.shown_s[slot]
    snapshots.disliked_item[row] = columns.disliked_item[slot]
    snapshots.long_term_size[row] = columns.long_term_size[slot]
    read_long_term(memory, slot, row, snapshots.long_term)
