"""Co-visit counts, learned visit by visit: which items follow which, weighted by the gap and decayed with time.

The retraining job learns a log with them, and the neighbours job the events as they come. All that is learned is in
arrays, so that it can be saved; one compiled loop changes them.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from anabranch.co_visit.bounded_rows import find, insert, keep_rows, prune, room_of, scale, with_room
from anabranch.co_visit.changed_items import CHANGED, CHANGED_BY_NEW, NEW_MS, ChangedItems
from anabranch.co_visit.columns import joined, taken
from anabranch.co_visit.memory import NONE, CoVisitMemory, UserHistories, empty_memory, item_counts, user_histories
from anabranch.co_visit_rule import CoVisitRule
from anabranch.forward_decay import ForwardDecay
from anabranch.ranking.jit import compiled
from anabranch.ranking.user_state.session import session_ends_compiled

HAS_RETURNED = np.uint64(1)
"""Bit of a user's entry of an item: the user came back to it in a later session."""


class Visits(NamedTuple):
    """N visits in the order in which they are learned. Users and items are numbers from 0 on."""

    user: NDArray[np.int64]
    item: NDArray[np.int64]
    """NONE: the visit only continues a session, or begins one"""
    ts: NDArray[np.int64]
    """UTC milliseconds"""
    session: NDArray[np.int64]
    is_counted: NDArray[np.bool_]
    """False for visits of users who shall leave no trace; they only enter their users' histories"""

    def between(self, start: int, end: int | None = None) -> Visits:
        """Those from one index to another."""
        part = slice(start, end)
        return Visits(self.user[part], self.item[part], self.ts[part], self.session[part], self.is_counted[part])


class _Weights(NamedTuple):
    """The rule, for the compiled loop."""

    by_gap: NDArray[np.float64]
    across: float
    backward: float
    user_cap: float
    row_bound: int
    user_bound: int
    pair_room: int
    """Entries that the pairs of one visit may need."""
    user_room: int


class CoVisitCounts:
    """What a stream of visits says about items."""

    def __init__(self, rule: CoVisitRule) -> None:
        self.rule = rule
        self.memory = empty_memory(rule.history)
        self.newest_weight = 1.0
        """Weight of the newest visit."""
        self.decay = ForwardDecay(rule.half_life_ms, self._rescale)
        longest = room_of(2 * rule.row_bound + rule.window + 1)
        self._weights = _Weights(
            by_gap=np.array([(gap + 1) ** -rule.gap_power for gap in range(rule.window)]),
            across=rule.across,
            backward=rule.backward,
            user_cap=rule.user_cap,
            row_bound=rule.row_bound,
            user_bound=rule.user_bound,
            pair_room=(rule.window + 1) * longest,
            user_room=room_of(2 * rule.user_bound + 1),
        )

    @property
    def visited_items(self) -> NDArray[np.int64]:
        """The items that were visited, ascending."""
        return np.flatnonzero(self.memory.items.users)

    def learn(self, visits: Visits) -> None:
        """Count visits, in their order."""
        if not len(visits.user):
            return
        self._reserve(int(visits.item.max()) + 1, int(visits.user.max()) + 1)
        start = 0
        while start < len(visits.user):
            rest = visits.between(start)
            weights = self.decay.weights(rest.ts)
            counted = weights[(rest.is_counted & (rest.item != NONE))[: len(weights)]]
            self.newest_weight = max(self.newest_weight, counted.max(initial=0.0))
            self._learn(rest, weights)
            start += len(weights)

    def choose_rows(self, first: int, has_row: NDArray[np.bool_]) -> None:
        """Keep rows of those of the items `first` to `first` + n - 1 alone that `has_row` [n] says.

        None of them was learned yet, or all that was is as this says. Visits of the others count, and pairs with them,
        in the rows that are kept. Without a call, every item has a row.
        """
        self._reserve(first + len(has_row), 0)
        self.memory.has_row[first : first + len(has_row)] = has_row

    def newest_items(self, user: int, n: int) -> NDArray[np.int64]:
        """The newest n items of a user, newest first; fewer if there are not so many."""
        users = self.memory.users
        return _newest(users, user)[:n] if user < len(users.entered) else np.empty(0, np.int64)

    def keep_users(self, numbers: NDArray[np.int64]) -> None:
        """Keep the users `numbers` [n], ascending, as users 0 to n - 1, and forget the histories of the others."""
        memory = self.memory
        self.memory = memory._replace(users=taken(memory.users, numbers), visited=keep_rows(memory.visited, numbers))

    def take_changed(self) -> ChangedItems:
        """The items that changed since the last call."""
        change = self.memory.items.change
        changed = ChangedItems(np.flatnonzero(change == CHANGED_BY_NEW), np.flatnonzero(change == CHANGED))
        change[:] = 0
        return changed

    def _learn(self, visits: Visits, weights: NDArray[np.float64]) -> None:
        done = 0
        while done < len(weights):
            self.memory = self.memory._replace(
                neighbours=with_room(self.memory.neighbours, 0, self._weights.pair_room),
                visited=with_room(self.memory.visited, 0, self._weights.user_room),
            )
            done = _count_visits(self.memory, self._weights, visits, weights, done)

    def _reserve(self, items: int, users: int) -> None:
        memory, rule = self.memory, self.rule
        missing = items - len(memory.items.users)
        if missing > 0:
            more_items = item_counts(max(missing, len(memory.items.users), 1024))
            columns = joined(memory.items, more_items)
            rows = with_room(memory.neighbours, len(columns.users), 0)
            has_row = np.concatenate([memory.has_row, np.ones(len(more_items.users), np.bool_)])
            memory = memory._replace(items=columns, neighbours=rows, has_row=has_row)
        missing = users - len(memory.users.entered)
        if missing > 0:
            more_users = user_histories(max(missing, len(memory.users.entered), 1024), rule.history)
            of_users = joined(memory.users, more_users)
            rows = with_room(memory.visited, len(of_users.entered), 0)
            memory = memory._replace(users=of_users, visited=rows)
        self.memory = memory

    def _rescale(self, factor: float) -> None:
        self.newest_weight *= factor
        self.memory.items.visits[:] *= factor
        self.memory.items.pairs[:] *= factor
        scale(self.memory.neighbours, factor)
        scale(self.memory.visited, factor)


@compiled
def _count_visits(
    memory: CoVisitMemory, rule: _Weights, visits: Visits, weights: NDArray[np.float64], first: int
) -> int:
    """Learn the visits [N] from `first` on, of the weights [N]; returns how many are done: all, or those before the
    first for which the rows of `memory` may lack room."""
    for n in range(first, len(weights)):
        if len(memory.neighbours.keys) - memory.neighbours.used[0] < rule.pair_room:
            return n
        if len(memory.visited.keys) - memory.visited.used[0] < rule.user_room:
            return n
        user, item, ts = visits.user[n], visits.item[n], visits.ts[n]
        _enter_session(memory.users, user, ts, visits.session[n])  # before pairing: it may end the session
        if item == NONE:
            continue
        if visits.is_counted[n]:
            _count_visit(memory, rule, user, item, ts, weights[n])
        users = memory.users
        users.items[user, users.entered[user] % users.items.shape[1]] = item
        users.entered[user] += 1
        users.session_length[user] += 1
    return len(weights)


@compiled
def _enter_session(users: UserHistories, user: int, ts: int, session: int) -> None:
    last = users.last_ms[user]
    if last < 0 or session_ends_compiled(users.session[user], session, ts - last, NONE):
        users.session_length[user] = 0
    users.session[user] = session
    users.last_ms[user] = max(last, ts)


@compiled
def _count_visit(memory: CoVisitMemory, rule: _Weights, user: int, item: int, ts: int, weight: float) -> None:
    items = memory.items
    if not items.users[item]:
        items.first_ms[item] = ts
    newest = _newest(memory.users, user)
    counted = _count_for_user(memory, rule, user, item, weight, newest)
    items.visits[item] += counted
    if memory.has_row[item]:
        items.change[item] = max(items.change[item], CHANGED)
    if counted:
        _count_pairs(memory, rule, user, item, counted, newest)


@compiled
def _count_for_user(
    memory: CoVisitMemory, rule: _Weights, user: int, item: int, weight: float, newest: NDArray[np.int64]
) -> float:
    """What a visit counts: its weight, or less where the user's visits of the item have reached `user_cap`. Counts the
    item's users and those who came back, too."""
    visited = memory.visited
    entry = find(visited, user, item)
    if entry < 0:
        entry = insert(visited, user, item)
        memory.items.users[item] += 1
    elif not visited.bits[entry] & HAS_RETURNED and not _is_in(newest[: memory.users.session_length[user]], item):
        visited.bits[entry] |= HAS_RETURNED
        memory.items.returned[item] += 1
    taken: float = min(weight, max(0.0, rule.user_cap * weight - visited.counts[entry]))
    visited.counts[entry] += taken
    if visited.length[user] > 2 * rule.user_bound:
        prune(visited, user, rule.user_bound)
    return taken


@compiled
def _newest(users: UserHistories, user: int) -> NDArray[np.int64]:
    """The newest items [at most H] of a user, newest first."""
    size, entered = users.items.shape[1], users.entered[user]
    newest, index = np.empty(min(entered, size), np.int64), entered % size
    for back in range(len(newest)):
        index = (index if index else size) - 1
        newest[back] = users.items[user, index]
    return newest


@compiled
def _is_in(items: NDArray[np.int64], item: int) -> bool:
    found = False
    for index in range(len(items)):  # without a branch, so that it compiles to vector instructions
        found |= items[index] == item
    return found


@compiled
def _count_pairs(
    memory: CoVisitMemory, rule: _Weights, user: int, item: int, weight: float, newest: NDArray[np.int64]
) -> None:
    """Count the pairs of a visit with the items before it, each of them once: with its newest visit."""
    neighbours, session_length = memory.neighbours, memory.users.session_length[user]
    first_ms, new_since_ms = memory.items.first_ms, memory.users.last_ms[user] - NEW_MS
    bit = np.uint64(1) << np.uint64(user & 63)
    for gap in range(min(len(rule.by_gap), len(newest))):
        is_across = gap >= session_length
        if is_across and not rule.across:
            break
        earlier = newest[gap]
        if not (memory.has_row[earlier] or memory.has_row[item]):
            continue
        if earlier == item or _is_in(newest[:gap], earlier):
            continue
        pair = weight * rule.by_gap[gap] * (rule.across if is_across else 1.0)
        change = CHANGED_BY_NEW if max(first_ms[earlier], first_ms[item]) > new_since_ms else CHANGED
        _add(memory, earlier, item, pair, bit, change)
        if neighbours.length[earlier] > 2 * rule.row_bound:
            prune(neighbours, earlier, rule.row_bound)
        if rule.backward:
            _add(memory, item, earlier, pair * rule.backward, bit, change)
    if neighbours.length[item] > 2 * rule.row_bound:
        prune(neighbours, item, rule.row_bound)


@compiled
def _add(memory: CoVisitMemory, row: int, item: int, count: float, bit: np.uint64, change: np.uint8) -> None:
    if not memory.has_row[row]:
        return
    entry = find(memory.neighbours, row, item)
    if entry < 0:
        entry = insert(memory.neighbours, row, item)
    memory.neighbours.counts[entry] += count
    memory.neighbours.bits[entry] |= bit
    memory.items.pairs[row] += count
    memory.items.change[row] = max(memory.items.change[row], change)
