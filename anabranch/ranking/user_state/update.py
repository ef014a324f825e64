"""Events entered into user states one after the other: session, clock, history and own items. Compiled."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from anabranch.ranking.jit import compiled
from anabranch.ranking.types import Positions, Rows
from anabranch.ranking.user_state.block_pool import NO_BLOCK, PAGE, History, OwnItems, read_own, take
from anabranch.ranking.user_state.session import session_ends_compiled
from anabranch.ranking.user_state.snapshot import UserSnapshots

LAST_SECOND = 2**32 - 1
"""In 2106: what is said to have happened later is taken to have happened then."""


class Observed(NamedTuple):
    """Columns of user states, by slot, that an event changes."""

    observed: NDArray[np.int64]
    """[n] events entered in the history, ever."""
    last_ts: NDArray[np.int64]
    """[n] ms of the newest event, -1 before the first."""
    session: NDArray[np.uint64]
    """[n] hash of the newest session id, 0 where events name none."""
    session_length: NDArray[np.int32]
    """[n] how many of the newest events of the history belong to the current session."""
    history_page: NDArray[np.int32]
    """[n] the first page of the history, NO_PAGE before there is any."""
    own_page: NDArray[np.int32]
    own_size: NDArray[np.int32]
    """[n] own items of before the history."""


@compiled
def mark_duplicates(
    recent_event: NDArray[np.uint64],  # [n, recent] by slot
    seen: NDArray[np.int64],  # [n] by slot
    slots: NDArray[np.int64],  # [B]
    keys: NDArray[np.uint64],  # [B]
) -> NDArray[np.bool_]:
    """Which of B events, in order, are among the last of their users; the others are from now on."""
    duplicate = np.zeros(len(slots), np.bool_)
    size = recent_event.shape[1]
    for b in range(len(slots)):
        slot, key = slots[b], keys[b]
        for n in range(size):
            if recent_event[slot, n] == key:
                duplicate[b] = True
        if not duplicate[b]:
            recent_event[slot, seen[slot] % size] = key
            seen[slot] += 1
    return duplicate


@compiled
def observe(
    users: Observed,
    history: History,
    own: OwnItems,
    slots: NDArray[np.int64],  # [B]
    items: Rows,  # [B]
    types: NDArray[np.uint8],  # [B]
    ts: NDArray[np.int64],  # [B] ms
    sessions: NDArray[np.uint64],  # [B]
    duplicate: NDArray[np.bool_],  # [B]
    length: int,  # of the history
    own_items: int,  # at most
    half_life_s: int,
    row: Positions,  # [B] of the query that the event is, -1: none
    queries: UserSnapshots,  # to be filled but for the vectors
) -> NDArray[np.float32]:
    """Enter B events in order, but for the duplicates; seconds [B] since each user's event before, 0 at the first.

    An event without an item (row -1: a search) touches the session and the clock only. A late event enters as it
    comes; the clock never runs backwards. What the history has no room for any more is counted among the own items, of
    which the weakest makes room.
    """
    since = np.zeros(len(slots), np.float32)
    for b in range(len(slots)):
        if duplicate[b]:
            continue
        slot, last = slots[b], users.last_ts[slots[b]]
        if last >= 0:
            since[b] = max(ts[b] - last, 0) / 1000
        if last < 0 or session_ends_compiled(users.session[slot], sessions[b], ts[b] - last, 0):
            users.session_length[slot] = 0
        users.session[slot] = sessions[b]
        users.last_ts[slot] = max(last, ts[b])

        if items[b] >= 0:
            nth = users.observed[slot]
            place = nth % length
            page, before = users.history_page[slot], NO_BLOCK
            for _ in range(place // PAGE):
                before, page = page, history.following[page]
            if nth >= length:
                _count(
                    users,
                    own,
                    slot,
                    history.item[page, place % PAGE],
                    history.second[page, place % PAGE],
                    own_items,
                    half_life_s,
                )
            elif place % PAGE == 0:
                page = take(history.following, history.spare, before)
                if place == 0:
                    users.history_page[slot] = page
            history.item[page, place % PAGE] = items[b]
            history.type[page, place % PAGE] = types[b]
            history.second[page, place % PAGE] = min(ts[b] // 1000, LAST_SECOND)
            users.observed[slot] = nth + 1
            users.session_length[slot] = min(users.session_length[slot] + 1, length)

        if row[b] >= 0:
            _ask(users, history, own, slot, length, row[b], queries)
    return since


@compiled
def _count(users: Observed, own: OwnItems, slot: int, item: int, second: int, most: int, half_life_s: int) -> None:
    """Count an event among the user's own items."""
    size, found, weakest = users.own_size[slot], False, np.float32(np.inf)
    page, last = users.own_page[slot], NO_BLOCK
    at, of = NO_BLOCK, 0  # page of the entry to change, and its place there
    for place in range(size):
        entry = place % PAGE
        if place > 0 and entry == 0:
            page = own.following[page]
        last = page
        if own.item[page, entry] == item:
            found, at, of = True, page, entry
            break
        if own.log[page, entry] < weakest:
            weakest, at, of = own.log[page, entry], page, entry
    now_log = np.float32(second / half_life_s)
    if found:
        log = own.log[at, of]
        own.log[at, of] = max(log, now_log) + np.float32(math.log2(1 + 2.0 ** -abs(log - now_log)))
        own.times[at, of] += 1
        own.last_s[at, of] = max(own.last_s[at, of], second)
        return
    if size < most:
        of = size % PAGE
        at = take(own.following, own.spare, last) if of == 0 else last
        if size == 0:
            users.own_page[slot] = at
        users.own_size[slot] = size + 1
    if at == NO_BLOCK:
        return  # none are kept
    own.item[at, of] = item
    own.log[at, of] = now_log
    own.times[at, of] = 1
    own.first_s[at, of] = second
    own.last_s[at, of] = second


@compiled
def _ask(
    users: Observed, history: History, own: OwnItems, slot: int, length: int, row: int, queries: UserSnapshots
) -> None:
    """Copy what a query needs."""
    queries.now[row] = users.last_ts[slot]
    queries.session_length[row] = users.session_length[slot]
    observed = users.observed[slot]
    page = users.history_page[slot]
    for place in range(min(observed, length)):
        if place > 0 and place % PAGE == 0:
            page = history.following[page]
        back = (observed - 1 - place) % length
        queries.recent[row, back] = history.item[page, place % PAGE]
        queries.recent_s[row, back] = history.second[page, place % PAGE]
    size = users.own_size[slot]
    queries.own_size[row] = size
    read_own(
        own,
        users.own_page[slot],
        size,
        row,
        queries.own_item,
        queries.own_log,
        queries.own_count,
        queries.own_first_s,
        queries.own_last_s,
    )
