"""The features of a candidate, in the order in which `order.onnx` reads them; all need O(1) state to maintain."""

from __future__ import annotations

import math

import numpy as np

from anabranch.messages import UNKNOWN_REPEAT_RATE
from anabranch.ranking.item_classes import Classes, item_class
from anabranch.ranking.jit import compiled
from anabranch.ranking.retrieval.candidate_columns import Candidates
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
    "co_visit_session",
    "session_category",
)
"""Names in the manifest of a release, which reads all of them or some; one that reads others is refused."""
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
    CO_VISIT_SESSION,
    SESSION_CATEGORY,
) = range(len(FEATURES))

RECENT = 10
"""Newest history items whose vectors a candidate is compared with."""
RECENCY_DECAY = 0.8
"""Weight of a history item relative to the next newer one."""
LOG_FLOOR = math.log(FLOOR)
DAY_MS = 86_400_000


def build_features(
    queries: UserSnapshots, candidates: Candidates, index: ItemIndex, co_visits: CoVisitRows, compared: Classes
) -> Floats:
    """Features [N, F] of N candidates. `compared` are the classes of items to whose best one the others are compared:
    those of the first placement, so that its order does not depend on what other placements show."""
    features = np.empty((len(candidates.item), len(FEATURES)), np.float32)
    _fill_features(features, candidates, queries, index.columns, co_visits.columns, compared)
    return features


@compiled
def _fill_features(
    features: Floats,  # [N, F] output
    candidates: Candidates,
    queries: UserSnapshots,
    items: ItemColumns,
    co_visits: CoVisitColumns,
    compared: Classes,
) -> None:
    """Fill in the features. Long because it writes every feature once, in one pass over the candidates."""
    vector, now = queries.vector, queries.now
    last, direction = np.empty(vector.shape[1], np.float32), np.empty(vector.shape[1], np.float32)
    end = 0
    for q in range(len(now)):
        start = end
        while end < len(candidates.query) and candidates.query[end] == q:
            end += 1
        _recent_vectors(items, queries.recent, q, last, direction)
        session = math.log1p(queries.session_length[q])

        best = -np.inf
        for n in range(start, end):
            item, count = candidates.item[n], candidates.own_count[n]
            inner, like_last, like_recent = np.float32(0), np.float32(0), np.float32(0)
            for d in range(vector.shape[1]):
                inner += items.vectors[item, d] * vector[q, d]
                like_last += items.vectors[item, d] * last[d]
                like_recent += items.vectors[item, d] * direction[d]
            if compared[item_class(count, candidates.session_count[n])]:
                best = max(best, float(inner))
            own, own_share, log_count, log_elapsed, due = LOG_FLOOR, 0.0, 0.0, 0.0, 0.0
            if count > 0:
                own, own_share = _log(candidates.own[n]), candidates.own[n] / max(candidates.all_own[q], FLOOR)
                log_count = math.log1p(count)
                first_s, last_s = int(candidates.own_first_s[n]), int(candidates.own_last_s[n])
                log_elapsed, due = _time_since_last(count, first_s, last_s, now[q] // 1000)
            popularity, age, repeat_rate = _item_statistics(co_visits, item, now[q])
            back, in_session = candidates.session_at[n], candidates.session_count[n]

            features[n, INNER_PRODUCT] = inner
            features[n, LIKE_LAST] = like_last
            features[n, LIKE_RECENT] = like_recent
            features[n, CO_VISIT_LAST] = _log(candidates.co_visit_last[n])
            features[n, CO_VISIT_RECENT] = _log(candidates.co_visit_recent[n])
            features[n, OWN] = own
            features[n, OWN_SHARE] = own_share
            features[n, OWN_COUNT] = log_count
            features[n, OWN_SINCE] = log_elapsed
            features[n, OWN_DUE] = due
            features[n, POPULARITY] = popularity
            features[n, AGE] = age
            features[n, SESSION_LENGTH] = session
            features[n, SESSION_SINCE] = 1 / (1 + back) if back >= 0 else 0.0
            features[n, SESSION_COUNT] = math.log1p(in_session) if in_session > 0 else 0.0
            features[n, REPEAT_RATE] = repeat_rate
            features[n, CO_VISIT_SESSION] = _log(candidates.co_visit_session[n])
            features[n, SESSION_CATEGORY] = math.log1p(candidates.session_category[n])
        for n in range(start, end):
            features[n, BELOW_BEST] = features[n, INNER_PRODUCT] - best if best > -np.inf else 0.0


@compiled
def _recent_vectors(items: ItemColumns, recent: Rows, q: int, last: Floats, direction: Floats) -> None:
    """Write the vector of a user's newest item to `last` [d], and the direction of the decayed sum of the newest items'
    vectors to `direction` [d]; zero if they have no vectors."""
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
        weight *= np.float32(RECENCY_DECAY)
    square = np.float32(0)
    for d in range(len(last)):
        square += direction[d] * direction[d]
    length = np.float32(max(math.sqrt(square), FLOOR))
    for d in range(len(last)):
        direction[d] /= length


@compiled
def _item_statistics(co_visits: CoVisitColumns, item: int, now: int) -> tuple[float, float, float]:
    """Logarithm of an item's popularity, log(1 + days) since its first event, and its repeat rate."""
    if item >= len(co_visits.first_seen):
        return LOG_FLOOR, 0.0, UNKNOWN_REPEAT_RATE
    first_ms = co_visits.first_seen[item]
    age = math.log1p(max(now - first_ms, 0) / DAY_MS) if first_ms >= 0 else 0.0
    return co_visits.log_popularity[item], age, co_visits.repeat_rate[item]


@compiled
def _time_since_last(count: float, first_s: int, last_s: int, now_s: int) -> tuple[float, float]:
    """log(1 + hours) since the user's last event about an item, and log(1 + the same time in units of their mean
    interval between such events), 0 for a single event."""
    elapsed_s = max(now_s - last_s, 0)
    interval_s = (last_s - first_s) / max(count - 1, 1)
    due = math.log1p(elapsed_s / max(interval_s, 1)) if count > 1 and interval_s > 0 else 0.0
    return math.log1p(elapsed_s / 3600), due


@compiled
def _log(weight: float) -> float:
    """Natural logarithm of a non-negative weight plus `FLOOR`, finite for 0."""
    return math.log(weight + FLOOR) if weight > 0 else LOG_FLOOR
