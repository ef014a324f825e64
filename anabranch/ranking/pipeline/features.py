"""The features of a candidate, all O(1) to keep; `order.onnx` reads them in this order."""

from __future__ import annotations

import math

import numpy as np

from anabranch.messages import UNKNOWN_REPEAT_RATE
from anabranch.ranking.jit import compiled
from anabranch.ranking.retrieval.candidates import Candidates
from anabranch.ranking.retrieval.co_visit_table import FLOOR, CoVisitColumns, CoVisitRows
from anabranch.ranking.retrieval.item_index import ItemColumns, ItemIndex
from anabranch.ranking.types import Floats, Rows
from anabranch.ranking.user_state.snapshot import UserSnapshots

FEATURES = (
    "inner_product",
    "below_best",
    "like_last",
    "like_recent",
    "co_visit_last",
    "co_visit_recent",
    "own",
    "own_share",
    "own_count",
    "own_since",
    "own_due",
    "popularity",
    "age",
    "session_length",
    "session_since",
    "session_count",
    "repeat_rate",
)
"""Names as the manifest carries them; a release made for other features does not load."""
(
    INNER_PRODUCT,
    BELOW_BEST,
    LIKE_LAST,
    LIKE_RECENT,
    CO_VISIT_LAST,
    CO_VISIT_RECENT,
    OWN,
    OWN_SHARE,
    OWN_COUNT,
    OWN_SINCE,
    OWN_DUE,
    POPULARITY,
    AGE,
    SESSION_LENGTH,
    SESSION_SINCE,
    SESSION_COUNT,
    REPEAT_RATE,
) = range(len(FEATURES))

RECENT = 10
"""Newest history items that a candidate is compared with."""
FADING = 0.8
"""Weight of each of them against the next newer one."""
LOG_FLOOR = math.log(FLOOR)
DAY_MS = 86_400_000


def build(queries: UserSnapshots, candidates: Candidates, index: ItemIndex, neighbours: CoVisitRows) -> Floats:
    """Features [N, F] of N candidates."""
    features = np.empty((len(candidates.item), len(FEATURES)), np.float32)
    _describe(features, candidates, queries, index.columns, neighbours.columns)
    return features


@compiled
def _describe(
    features: Floats,  # [N, F], to be filled
    candidates: Candidates,
    queries: UserSnapshots,
    items: ItemColumns,
    neighbours: CoVisitColumns,
) -> None:
    vector, now = queries.vector, queries.now
    last, direction = np.empty(vector.shape[1], np.float32), np.empty(vector.shape[1], np.float32)
    end = 0
    for q in range(len(now)):
        start = end
        while end < len(candidates.query) and candidates.query[end] == q:
            end += 1
        _tastes(items, queries.recent, q, last, direction)
        session = math.log1p(queries.session_length[q])

        best = -np.inf
        for n in range(start, end):
            item, times = candidates.item[n], candidates.own_count[n]
            inner, like_last, like_recent = np.float32(0), np.float32(0), np.float32(0)
            for d in range(vector.shape[1]):
                inner += items.vectors[item, d] * vector[q, d]
                like_last += items.vectors[item, d] * last[d]
                like_recent += items.vectors[item, d] * direction[d]
            best = max(best, float(inner))
            own, share, count, since, due = LOG_FLOOR, 0.0, 0.0, 0.0, 0.0
            if times > 0:
                own, share = _log(candidates.own[n]), candidates.own[n] / max(candidates.all_own[q], FLOOR)
                count = math.log1p(times)
                first_s, last_s = int(candidates.own_first_s[n]), int(candidates.own_last_s[n])
                since, due = _waited(times, first_s, last_s, now[q] // 1000)
            popularity, age, repeat_rate = LOG_FLOOR, 0.0, UNKNOWN_REPEAT_RATE
            if item < len(neighbours.first_seen):
                popularity, repeat_rate = neighbours.log_popularity[item], neighbours.repeat_rate[item]
                if neighbours.first_seen[item] >= 0:
                    age = math.log1p(max(now[q] - neighbours.first_seen[item], 0) / DAY_MS)
            back, in_session = candidates.session_at[n], candidates.session_count[n]

            features[n, INNER_PRODUCT] = inner
            features[n, LIKE_LAST] = like_last
            features[n, LIKE_RECENT] = like_recent
            features[n, CO_VISIT_LAST] = _log(candidates.co_visit_last[n])
            features[n, CO_VISIT_RECENT] = _log(candidates.co_visit_recent[n])
            features[n, OWN] = own
            features[n, OWN_SHARE] = share
            features[n, OWN_COUNT] = count
            features[n, OWN_SINCE] = since
            features[n, OWN_DUE] = due
            features[n, POPULARITY] = popularity
            features[n, AGE] = age
            features[n, SESSION_LENGTH] = session
            features[n, SESSION_SINCE] = 1 / (1 + back) if back >= 0 else 0.0
            features[n, SESSION_COUNT] = math.log1p(in_session) if in_session > 0 else 0.0
            features[n, REPEAT_RATE] = repeat_rate
        for n in range(start, end):
            features[n, BELOW_BEST] = features[n, INNER_PRODUCT] - best


@compiled
def _tastes(items: ItemColumns, recent: Rows, q: int, last: Floats, direction: Floats) -> None:
    """The vector [d] of a user's newest item, and the direction [d] in which the newest ones lie; 0 where unknown."""
    for d in range(len(last)):
        last[d], direction[d] = 0, 0
    weight = np.float32(1)
    for back in range(min(recent.shape[1], RECENT)):
        item = recent[q, back]
        if 0 <= item < len(items.known) and items.known[item]:
            for d in range(len(last)):
                if back == 0:
                    last[d] = items.vectors[item, d]
                direction[d] += weight * items.vectors[item, d]
        weight *= np.float32(FADING)
    square = np.float32(0)
    for d in range(len(last)):
        square += direction[d] * direction[d]
    length = np.float32(max(math.sqrt(square), FLOOR))
    for d in range(len(last)):
        direction[d] /= length


@compiled
def _waited(count: float, first_s: int, last_s: int, now_s: int) -> tuple[float, float]:
    """How long ago the user last had the item, and that against how long it takes them as a rule; 0 where unknown."""
    since = max(now_s - last_s, 0)
    interval = (last_s - first_s) / max(count - 1, 1)  # mean s between the user's own
    due = math.log1p(since / max(interval, 1)) if count > 1 and interval > 0 else 0.0
    return math.log1p(since / 3600), due


@compiled
def _log(weight: float) -> float:
    """Natural logarithm of a non-negative weight, with a floor that keeps zero finite."""
    return math.log(weight + FLOOR) if weight > 0 else LOG_FLOOR
