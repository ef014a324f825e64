"""Examples for the purchase head: candidates made by the very core that serves, and whether they were bought."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from anabranch.messages import EVENT_TYPES
from anabranch.ranking.vocabulary import ItemIds
from models.data.event_log import NONE, EventLog
from models.data.purchase_examples import NoPurchaseHead, PurchaseExampleConfig, PurchaseExamples
from models.evaluation.protocols import Ranker
from models.offline.ranking_lists import candidate_lists
from models.stages import Advance

Floats = NDArray[np.float32]
Positions = NDArray[np.int64]

PURCHASE = EVENT_TYPES.index("purchase")
DAY_MS = 24 * 3600 * 1000


def purchase_examples(
    ranker: Ranker,
    before: EventLog,
    after: EventLog,
    config: PurchaseExampleConfig,
    seed: int,
    done: Advance = lambda n: None,
) -> PurchaseExamples:
    """Fold `before` into user states, then take the candidates at moments of `after`, right after an event each.

    A candidate was bought if its user's purchase of it is a later event of the log and at most the horizon younger
    than the moment's. Moments less than the horizon before the last event are left out: of them it is not known yet.
    `done(n)` is told of every n events gone through. Raises `NoPurchaseHead` where there is nothing to learn.
    """
    _require_purchases(before.followed_by(after))
    horizon = int(config.horizon_days * DAY_MS)
    known = int(np.searchsorted(after.ts, after.ts[-1:] - horizon, side="right")[0]) if len(after) else 0
    if known == 0:
        raise NoPurchaseHead(
            f"the order's window is shorter than the {config.horizon_days:g} days within which a purchase counts"
        )
    first = max(0, known - config.events)
    asked = after.take(slice(first, known))
    chosen = np.random.default_rng(seed).random(len(asked)) < config.prediction_points / len(asked)
    number = _item_numbers(after, ranker.item_ids)
    features, bought, sizes = [], [], []
    earlier = before.followed_by(after.take(slice(0, first)))
    parts = (ranker.live, ranker.neighbours, ranker.item_ids, ranker.policy)
    for rows, candidates, made in candidate_lists(*parts, earlier, asked, chosen, done):
        moment = first + rows[candidates.query]
        bought.append(bought_within(after, moment, number[candidates.item], horizon))
        features.append(made)
        sizes.append(np.bincount(candidates.query, minlength=len(rows)))
    per_moment = np.concatenate(sizes)
    return PurchaseExamples(
        np.concatenate(features), np.concatenate(bought), np.repeat(np.arange(len(per_moment)), per_moment)
    )


def bought_within(log: EventLog, moment: Positions, item: Positions, horizon: int) -> NDArray[np.bool_]:
    """Whether the users of the log's events `moment` [N] buy `item` [N] after them, at most `horizon` ms later."""
    purchases = np.flatnonzero(log.type == PURCHASE)
    if len(purchases) == 0:
        return np.zeros(len(moment), np.bool_)
    pair = log.user.astype(np.int64) * (len(log.item_ids) + 1) + log.item  # one to spare: NONE is nobody's item
    pairs, of_pair = np.unique(pair[purchases], return_inverse=True)
    ordered = np.sort(of_pair * len(log) + purchases)  # by pair, then by time
    asked = log.user[moment].astype(np.int64) * (len(log.item_ids) + 1) + item
    at = np.minimum(np.searchsorted(pairs, asked), len(pairs) - 1)
    following = ordered[np.minimum(np.searchsorted(ordered, at * len(log) + moment, side="right"), len(ordered) - 1)]
    same = (pairs[at] == asked) & (following // len(log) == at) & (following % len(log) > moment)
    within: NDArray[np.bool_] = same & (log.ts[following % len(log)] - log.ts[moment] <= horizon)
    return within


def _require_purchases(log: EventLog) -> None:
    if not (log.type == PURCHASE).any():
        raise NoPurchaseHead("no event is a purchase")


def _item_numbers(log: EventLog, item_ids: ItemIds) -> Positions:
    """The log's item number of every row of `item_ids`, NONE where it has none."""
    rows = item_ids.rows(log.item_ids)
    numbers = np.full(len(item_ids), NONE, np.int64)
    numbers[rows] = np.arange(len(rows))
    return numbers
