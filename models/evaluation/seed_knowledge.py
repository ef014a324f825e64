"""What each seed knows, beside what sharing made of all of them: on moments that nobody has learned from."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from anabranch.ranking.pipeline.rank import NOT_ON_SLATE, put_in_order
from models.data.event_log import EventLog
from models.data.sequences import Positions
from models.evaluation.paired_differences import OVERALL
from models.evaluation.seed_models import moments_before, seed_ranks
from models.evaluation.slices import Mask, cut_slices, repeats
from models.evaluation.summaries import Lead, Quality, lead
from models.metrics.ranking import Ranks
from models.offline.event_batches import move_last_events_to
from models.offline.offline_ranker import OfflineRanker
from models.offline.ranking_lists import candidate_batches
from models.seeds.seed_model import SeedModel
from models.stages import Done

LARGEST_SHARE = 0.1
"""Of the moments there are, so many are measured on at most: where there are few, the order needs the others."""


class SeedKnown(Struct, frozen=True, kw_only=True):
    """One seed, and how much better than it the shared ranking is."""

    quality: Quality
    lead: dict[str, Lead]
    """Slice → shared minus seed; overall first."""


class SeedsKnown(Struct, frozen=True, kw_only=True):
    """Every seed and the shared ranking on the same moments, in whose items none of them has learned."""

    shared: Quality
    seeds: dict[str, SeedKnown]
    events: dict[str, int]
    """By slice, overall first; of the slices that have any."""
    users: dict[str, int]
    """The same; the intervals are over users."""


def draw_moments(log: EventLog, start: int, most: int, seed: int) -> Positions:
    """Rows [M] of events from `start` on whose user has an earlier one, drawn evenly, in order of time."""
    rows = start + np.flatnonzero(log.previous()[start:] >= 0)
    drawn = min(most, int(LARGEST_SHARE * len(rows)))
    return np.sort(np.random.default_rng(seed).choice(rows, drawn, replace=False))


def seeds_known(
    seeds: Sequence[SeedModel],
    shared: OfflineRanker,
    log: EventLog,
    start: int,
    rows: Positions,
    domains: Sequence[str | None],
    done: Done = lambda share: None,
) -> SeedsKnown:
    """Measure fitted seeds and the shared ranking on the events at rows [M] of the log, from `start` on.

    Seeds and encoder have learned the log up to `start`, and the order nothing of these events. The log's items are
    the seeds' items, and `domains` theirs.
    """
    wanted, user = log.item[rows], log.user[rows]
    slices = {OVERALL: np.ones(len(rows), np.bool_), **cut_slices(log, start, rows, repeats(log)[rows], domains)}
    slices = {name: where for name, where in slices.items() if where.any()}
    theirs = np.flatnonzero(np.isin(log.user, user))
    log, start, rows = log.take(theirs), int(np.searchsorted(theirs, start)), np.searchsorted(theirs, rows)
    moments = moments_before(log, rows, shared.policy)
    ranks = ranks_at_rows(shared, log, start, rows)
    done(0.5)
    known = {}
    for seed in seeds:
        known[seed.name] = _known(seed_ranks(seed, moments, wanted, shared.policy.slate), ranks, user, slices)
        done(0.5 / len(seeds))
    return SeedsKnown(
        shared=Quality.of(ranks),
        seeds=known,
        events={name: int(where.sum()) for name, where in slices.items()},
        users={name: len(np.unique(user[where])) for name, where in slices.items()},
    )


def ranks_at_rows(ranker: OfflineRanker, log: EventLog, start: int, rows: Positions) -> Ranks:
    """Positions of the items of the events at rows [M], all from `start` on, on slates made right before the events.

    Other events only update user states, so this is faster than `rank_events`.
    """
    order, before = move_last_events_to(log, start)  # rows from `start` on keep their index
    log, start = log.take(order), start - before
    previous = log.previous()[rows] - start
    chosen = np.zeros(len(log) - start, np.bool_)
    chosen[previous] = True
    slates = np.full((len(chosen), ranker.policy.slate), -1, np.int32)
    for batch in candidate_batches(ranker, log.take(slice(0, start)), log.take(slice(start, None)), chosen):
        ranked = put_in_order(ranker.live, batch.candidates, batch.features, len(batch.row), ranker.policy.slate)
        slates[batch.row] = ranked[0]
    hit = slates[previous] == ranker.item_ids.rows(log.item_ids)[log.item[rows]][:, None]
    return np.where(hit.any(axis=1), hit.argmax(axis=1) + 1, NOT_ON_SLATE).astype(np.int32)


def _known(ranks: Ranks, shared: Ranks, user: NDArray[np.int32], slices: dict[str, Mask]) -> SeedKnown:
    return SeedKnown(
        quality=Quality.of(ranks),
        lead={name: lead(shared[where], ranks[where], user[where]) for name, where in slices.items()},
    )
