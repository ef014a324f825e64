"""The features of a candidate, all O(1) to keep; `order.onnx` reads them in this order."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from anabranch.ranking.candidates import Candidates, Floats, Queries
from anabranch.ranking.index import ItemIndex
from anabranch.ranking.neighbours import NeighbourTable

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

RECENT = 10
"""Newest history items that a candidate is compared with."""
FADING = 0.8
"""Weight of each of them against the next newer one."""
FLOOR = 1e-6
LOG_FLOOR = np.log(FLOOR)


def build(
    queries: Queries, candidates: Candidates, index: ItemIndex, neighbours: NeighbourTable, own_half_life_s: int
) -> Floats:
    """Features [N, F] of N candidates."""
    query, item = candidates.query, candidates.item
    now, now_s = queries.now[query], queries.now[query] // 1000
    inner, below_best, like_last, like_recent = _likeness(queries, candidates, index)
    in_session = candidates.session_at >= 0

    own = candidates.own_at >= 0
    at = np.where(own, candidates.own_at, 0)
    decayed = np.exp2(queries.own_log - (queries.now / 1000 / own_half_life_s)[:, None])  # [B, M]
    weight, weights = decayed[query, at], decayed.sum(axis=1)[query]
    count, last_s = np.where(own, queries.own_count[query, at], 0), queries.own_last_s[query, at]
    since = np.maximum(now_s - last_s, 0)
    interval = (last_s - queries.own_first_s[query, at]) / np.maximum(count - 1, 1)  # mean s between the user's own
    first_seen = neighbours.first_seen(item)

    features = np.empty((len(item), len(FEATURES)), np.float32)
    for column, values in enumerate(
        (
            inner,
            below_best,
            like_last,
            like_recent,
            _log(candidates.co_visit_last),
            _log(candidates.co_visit_recent),
            np.where(own, _log(weight), LOG_FLOOR),
            np.where(own, weight / np.maximum(weights, FLOOR), 0),
            np.log1p(count),
            np.where(own, np.log1p(since / 3600), 0),
            np.where(own & (count > 1) & (interval > 0), np.log1p(since / np.maximum(interval, 1)), 0),
            _log(neighbours.popularity(item)),
            np.where(first_seen >= 0, np.log1p(np.maximum(now - first_seen, 0) / 86_400_000), 0),
            np.log1p(queries.session_length)[query],
            np.where(in_session, 1 / (1 + np.maximum(candidates.session_at, 0)), 0),
            np.log1p(candidates.session_count),
            neighbours.repeat_rate(item),
        )
    ):
        features[:, column] = values
    return features


def _likeness(queries: Queries, candidates: Candidates, index: ItemIndex) -> Floats:
    """Inner products [4, N] of each candidate: with its user, that less the user's best, with the user's last item, and
    with the recent ones. A query at a time: its candidates' vectors fit into the cache."""
    wishes = np.stack([queries.vector, _last_vector(queries, index), _recent_vector(queries, index)], axis=2)
    bounds = np.searchsorted(candidates.query, np.arange(len(queries) + 1))
    likeness = np.empty((4, len(candidates.item)), np.float32)
    for wish, start, end in zip(wishes, bounds[:-1].tolist(), bounds[1:].tolist(), strict=True):
        if start < end:
            likeness[[0, 2, 3], start:end] = (index.vectors(candidates.item[start:end]) @ wish).T  # [d, 3] each
            likeness[1, start:end] = likeness[0, start:end] - likeness[0, start:end].max()
    return likeness


def _last_vector(queries: Queries, index: ItemIndex) -> Floats:
    """The vectors [B, d] of the users' newest items, 0 where that has none."""
    newest = queries.recent[:, 0]
    known = index.known(newest)
    return index.vectors(np.where(known, newest, 0)) * known[:, None]


def _recent_vector(queries: Queries, index: ItemIndex) -> Floats:
    """The direction [B, d] in which a user's newest items lie, 0 where none of them has a vector."""
    recent = queries.recent[:, :RECENT]
    known = index.known(recent)
    weights = np.where(known, FADING ** np.arange(recent.shape[1]), 0).astype(np.float32)
    mean = np.einsum("br,brd->bd", weights, index.vectors(np.where(known, recent, 0)))
    direction: Floats = mean / np.maximum(np.linalg.norm(mean, axis=1, keepdims=True), FLOOR)
    return direction


def _log(weight: NDArray[np.floating]) -> NDArray[np.floating]:
    """Natural logarithm of a non-negative weight, with a floor that keeps zero finite."""
    logarithm: NDArray[np.floating] = np.log(weight + FLOOR)
    return logarithm
