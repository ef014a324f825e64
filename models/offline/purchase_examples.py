"""Training examples for the purchase head: candidates of the serving core, labelled with the user's later purchases."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from anabranch.messages import EVENT_TYPES
from anabranch.ranking.pipeline.slates import ScoredCandidates
from anabranch.ranking.vocabulary import ItemVocabulary
from models.data.event_log import DAY_MS, NONE, EventLog
from models.data.purchase_examples import NoPurchaseHead, PurchaseExampleConfig, PurchaseExamples
from models.data.sequences import Positions
from models.offline.offline_ranker import OfflineRanker
from models.offline.ranking_lists import CandidateBatch, candidate_batches
from models.stages import Advance

PURCHASE = EVENT_TYPES.index("purchase")


def purchase_examples(
    ranker: OfflineRanker,
    before: EventLog,
    after: EventLog,
    config: PurchaseExampleConfig,
    random_seed: int,
    done: Advance = lambda n: None,
) -> PurchaseExamples:
    """Replay `before` into user states, then take the candidates at sampled prediction points: right after events of
    `after`.

    A candidate is a positive if its user buys it after the prediction point and within the horizon. It is on the slate
    if the ranker's list ranker puts it there. Prediction points
    less than the horizon before the last event are not used: their labels are not complete yet. Calls `done(n)` after
    every n events. Raises `NoPurchaseHead` if the log has no purchase or is shorter than the horizon.
    """
    _require_purchases(before.followed_by(after))
    horizon_ms = int(config.horizon_days * DAY_MS)
    end = int(np.searchsorted(after.ts, after.ts[-1:] - horizon_ms, side="right")[0]) if len(after) else 0
    if end == 0:
        raise NoPurchaseHead(
            f"the list ranker's window is shorter than the {config.horizon_days:g} days within which a purchase counts"
        )
    start = max(0, end - config.events)
    points = after.take(slice(start, end))
    chosen = np.random.default_rng(random_seed).random(len(points)) < config.prediction_points / len(points)
    item_number = _item_numbers(after, ranker.item_ids)
    features, bought, on_slate, sizes = [], [], [], []
    earlier = before.followed_by(after.take(slice(0, start)))
    for batch in candidate_batches(ranker, earlier, points, chosen, done):
        query = batch.candidates.query
        bought.append(bought_within(after, start + batch.row[query], item_number[batch.candidates.item], horizon_ms))
        features.append(batch.features)
        on_slate.append(_on_slate(ranker, batch))
        sizes.append(np.bincount(query, minlength=len(batch.row)))
    point_sizes = np.concatenate(sizes)
    return PurchaseExamples(
        features=np.concatenate(features),
        bought=np.concatenate(bought),
        prediction_point=np.repeat(np.arange(len(point_sizes)), point_sizes),
        on_slate=np.concatenate(on_slate),
    )


def bought_within(log: EventLog, row: Positions, item: Positions, horizon_ms: int) -> NDArray[np.bool_]:
    """Whether the user of event `row` [N] buys `item` [N] in a later event of the log, at most `horizon_ms` after."""
    purchases = np.flatnonzero(log.type == PURCHASE)
    if len(purchases) == 0:
        return np.zeros(len(row), np.bool_)
    items = len(log.item_ids) + 1  # one more than there are, so that NONE (-1) matches no item of the next user
    pair = log.user.astype(np.int64) * items + log.item
    bought_pairs, pair_index = np.unique(pair[purchases], return_inverse=True)
    ordered = np.sort(pair_index * len(log) + purchases)  # by pair, then by time
    query_pair = log.user[row].astype(np.int64) * items + item
    index = np.minimum(np.searchsorted(bought_pairs, query_pair), len(bought_pairs) - 1)
    next_purchase = np.searchsorted(ordered, index * len(log) + row, side="right")
    next_pair, next_row = np.divmod(ordered[np.minimum(next_purchase, len(ordered) - 1)], len(log))
    is_same_pair = (bought_pairs[index] == query_pair) & (next_pair == index) & (next_row > row)
    within: NDArray[np.bool_] = is_same_pair & (log.ts[next_row] - log.ts[row] <= horizon_ms)
    return within


def _on_slate(ranker: OfflineRanker, batch: CandidateBatch) -> NDArray[np.bool_]:
    """Whether each candidate [N] of a batch is on the slate."""
    scored = ScoredCandidates.by_features(ranker.live, batch.queries, batch.candidates, batch.features)
    best = scored.best(ranker.policy, 0, ranker.layout.slate)
    on_slate = np.zeros(len(batch.features), np.bool_)
    on_slate[best.candidate[best.candidate >= 0]] = True
    return on_slate


def _require_purchases(log: EventLog) -> None:
    if not (log.type == PURCHASE).any():
        raise NoPurchaseHead("no event is a purchase")


def _item_numbers(log: EventLog, item_ids: ItemVocabulary) -> Positions:
    """The log's item number of every row of `item_ids`, NONE where it has none."""
    rows = item_ids.rows(log.item_ids)
    numbers = np.full(len(item_ids), NONE, np.int64)
    numbers[rows] = np.arange(len(rows))
    return numbers
