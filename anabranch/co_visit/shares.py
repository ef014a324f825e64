"""Co-visit counts as shares of an item's co-visits: the rows of the table, and the scores of one user's candidates."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from anabranch.co_visit.counts import CoVisitCounts
from anabranch.co_visit.memory import CoVisitMemory
from anabranch.co_visit.table import CoVisitTable
from anabranch.co_visit.text_prior import NO_TEXTS, TextPrior
from anabranch.co_visit_scoring import CoVisitScoring
from anabranch.messages import UNKNOWN_REPEAT_RATE
from anabranch.ranking.jit import compiled

DAY_MS = 86_400_000


class _Sharing(NamedTuple):
    """What makes shares of counts, for the compiled loops."""

    damping: float
    min_users: int
    prior: float
    """Weight of all text neighbours of an item together."""
    texts: TextPrior


def table_rows(
    counts: CoVisitCounts, items: NDArray[np.int64], width: int, min_users: int, texts: TextPrior = NO_TEXTS
) -> CoVisitTable:
    """The strongest `width` neighbours of the items [n], each of which was visited.

    Pairs of fewer than `min_users` do not count. An item that fewer visited has the day of its first visit, and
    neighbours by text.
    """
    memory, rule = counts.memory, counts.rule
    neighbours, share = np.full((len(items), width), -1, np.int32), np.zeros((len(items), width), np.float32)
    _strongest(memory, _sharing(counts, min_users, texts), items, neighbours, share)
    columns = memory.items
    users, first_ms = columns.users[items], columns.first_ms[items]
    repeat_rate = (columns.returned[items] + rule.repeat_prior * UNKNOWN_REPEAT_RATE) / (users + rule.repeat_prior)
    is_shared = users >= min_users
    return CoVisitTable(
        item=items.astype(np.int32),
        neighbours=neighbours,
        share=share,
        popularity=np.where(is_shared, columns.visits[items] / max(columns.visits.sum(), 1.0), 0).astype(np.float32),
        first_seen=np.where(is_shared, first_ms, first_ms - first_ms % DAY_MS),
        repeat_rate=np.where(is_shared, repeat_rate, UNKNOWN_REPEAT_RATE).astype(np.float32),
    )


def summed_shares(
    counts: CoVisitCounts, user: int, scoring: CoVisitScoring, texts: TextPrior, scratch: NDArray[np.float64]
) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
    """The distinct items near a user's newest ones, and their scores by the rule of `CoVisitScoring`.

    `scratch` has an entry for each item; all are 0 before and after.
    """
    newest = counts.newest_items(user, scoring.recent)
    weights = np.array(scoring.weights[: len(newest)])
    return _summed(
        counts.memory, _sharing(counts, counts.rule.min_users, texts), newest, weights, scoring.own_share, scratch
    )


def _sharing(counts: CoVisitCounts, min_users: int, texts: TextPrior) -> _Sharing:
    rule = counts.rule
    return _Sharing(rule.damping, min_users, rule.text_prior * counts.newest_weight, texts)


@compiled
def _strongest(
    memory: CoVisitMemory,
    sharing: _Sharing,
    items: NDArray[np.int64],
    neighbours: NDArray[np.int32],
    shares: NDArray[np.float32],
) -> None:
    """Write the strongest neighbours [n, W] of the items [n], and their shares; of equal ones the lower item first."""
    for n in range(len(items)):
        near, share = _row(memory, sharing, items[n])
        width, filled = neighbours.shape[1], 0
        best = np.zeros(width)
        for index in range(len(near)):
            position = filled
            while position > 0 and _is_stronger(
                share[index], near[index], best[position - 1], neighbours[n, position - 1]
            ):
                position -= 1
            if position == width:
                continue
            filled = min(filled + 1, width)
            for k in range(filled - 1, position, -1):
                best[k], neighbours[n, k] = best[k - 1], neighbours[n, k - 1]
            best[position], neighbours[n, position] = share[index], near[index]
        for k in range(filled):
            shares[n, k] = best[k]


@compiled
def _is_stronger(share: float, item: int, other_share: float, other: int) -> bool:
    return share > other_share or (share == other_share and item < other)


@compiled
def _row(memory: CoVisitMemory, sharing: _Sharing, item: int) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
    """The distinct neighbours of an item, and their shares of its co-visits, those by text included; all above 0.

    Pairs of fewer than `min_users` do not count: what fewer did is theirs.
    """
    rows, texts = memory.neighbours, sharing.texts
    start, length = rows.start[item], rows.length[item]
    by_text = texts.item.shape[1] if item < len(texts.item) else 0
    prior = 0.0
    for k in range(by_text):
        if texts.share[item, k] > 0:
            prior = sharing.prior
    total = memory.items.pairs[item] + sharing.damping * memory.items.visits[item] + prior
    near, share, n = np.empty(length + by_text, np.int32), np.empty(length + by_text), 0
    for index in range(start, start + length):
        if rows.counts[index] > 0 and _bit_count(rows.bits[index]) >= sharing.min_users:
            near[n], share[n] = rows.keys[index], rows.counts[index] / total
            n += 1
    counted = n
    for k in range(by_text):
        added = prior * np.float64(texts.share[item, k]) / total if prior else 0.0
        if added > 0:
            index = 0
            while index < counted and near[index] != texts.item[item, k]:
                index += 1
            if index < counted:
                share[index] += added
            else:
                near[n], share[n] = texts.item[item, k], added
                n += 1
    return near[:n], share[:n]


@compiled
def _bit_count(bits: np.uint64) -> int:
    n = 0
    while bits:
        bits &= bits - np.uint64(1)
        n += 1
    return n


@compiled
def _summed(
    memory: CoVisitMemory,
    sharing: _Sharing,
    newest: NDArray[np.int64],
    weights: NDArray[np.float64],
    own_share: float,
    scratch: NDArray[np.float64],
) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
    """The distinct items of the rows of the newest items [r], and of these where they have a share, with their sums."""
    distinct, n = np.empty(64, np.int32), 0
    for back in range(len(newest)):
        if own_share:
            distinct, n = _add(scratch, distinct, n, newest[back], own_share * weights[back])
    for back in range(len(newest)):
        if newest[back] < len(memory.items.users) and memory.items.users[newest[back]]:
            near, share = _row(memory, sharing, newest[back])
            for k in range(len(near)):
                distinct, n = _add(scratch, distinct, n, near[k], weights[back] * share[k])
    scores = np.empty(n)
    for k in range(n):
        scores[k] = scratch[distinct[k]]
        scratch[distinct[k]] = 0.0
    return distinct[:n], scores


@compiled
def _add(
    scratch: NDArray[np.float64], distinct: NDArray[np.int32], n: int, item: int, score: float
) -> tuple[NDArray[np.int32], int]:
    """Add to the score of an item, which is the next of the distinct ones if it has none yet."""
    if scratch[item] == 0:
        if n == len(distinct):
            distinct = np.concatenate((distinct, np.empty(n, np.int32)))
        distinct[n] = item
        n += 1
    scratch[item] += score
    return distinct, n
