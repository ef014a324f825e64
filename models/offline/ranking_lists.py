"""Candidate lists for the order to learn from, made by the very core that serves."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from anabranch.ranking.pipeline.features import build
from anabranch.ranking.pipeline.rank import Batch, advance, fold
from anabranch.ranking.pipeline.servable import LiveRelease
from anabranch.ranking.policy import Policy
from anabranch.ranking.retrieval.candidates import Candidates, propose
from anabranch.ranking.retrieval.co_visit_table import NeighbourTable
from anabranch.ranking.user_state.store import StateLayout, UserStates
from anabranch.ranking.vocabulary import ItemIds
from models.co_visit.table import CoVisitTable
from models.data.event_log import NONE, EventLog
from models.networks.list_ranker import Floats, Positions, RankingLists
from models.stages import Advance

BATCH = 256
FOLD_BATCH = 4096


def neighbour_table(table: CoVisitTable, item_ids: ItemIds, log: EventLog, width: int = 20) -> NeighbourTable:
    """The co-visit table of a log's item numbers, as the ranker holds it."""
    rows = item_ids.rows(log.item_ids)
    neighbours = NeighbourTable(width)
    for at, item in enumerate(table.item.tolist()):
        present = table.neighbours[at] != NONE
        neighbours.set(
            int(rows[item]),
            rows[table.neighbours[at][present]],
            table.share[at][present],
            float(table.popularity[at]),
            int(table.first_seen[at]),
            float(table.repeat_rate[at]),
        )
    return neighbours


def batches(log: EventLog, states: UserStates, item_ids: ItemIds, size: int, first_key: int = 1) -> list[Batch]:
    """A log as the core's batches; event ids are the rows, counted from `first_key`."""
    slots = states.slots(log.user_ids)[log.user]
    rows = np.append(item_ids.rows(log.item_ids), np.int32(-1))[log.item]
    keys = np.arange(first_key, first_key + len(log), dtype=np.uint64)
    sessions = (log.session + 1).astype(np.uint64)
    return [
        Batch(
            slots=slots[part],
            items=rows[part],
            types=log.type[part],
            ts=log.ts[part],
            sessions=sessions[part],
            keys=keys[part],
            queries={},
        )
        for part in (slice(start, start + size) for start in range(0, len(log), size))
    ]


def order_lists(
    live: LiveRelease,
    neighbours: NeighbourTable,
    item_ids: ItemIds,
    log: EventLog,
    start: int,
    held_out: Positions,
    policy: Policy,
    lists: int,
    seed: int,
    done: Advance = lambda n: None,
) -> RankingLists:
    """Up to `lists` lists, each made right before one of the events from `start` on, for their users' states then.

    A list counts only if the item that came is on it. None is made for the events at the rows `held_out`, which are
    there to measure on. `done(n)` is told of every n events gone through.
    """
    rows, before = last_before(log, start)
    log, start = log.take(rows), start - before
    after = log.take(slice(start, None))
    following = _following_items(after, item_ids, ~np.isin(rows[start:], held_out))
    told = following >= 0
    chosen = told & (np.random.default_rng(seed).random(len(after)) < lists / max(int(told.sum()), 1))
    asked = candidate_lists(live, neighbours, item_ids, policy, log.take(slice(0, start)), after, chosen, done)
    return RankingLists.concatenate(
        [_with_positive(candidates, features, following[rows]) for rows, candidates, features in asked]
    )


def candidate_lists(
    live: LiveRelease,
    neighbours: NeighbourTable,
    item_ids: ItemIds,
    policy: Policy,
    before: EventLog,
    after: EventLog,
    chosen: NDArray[np.bool_],
    done: Advance = lambda n: None,
) -> Iterator[tuple[Positions, Candidates, Floats]]:
    """Fold `before` into user states, then go through `after`, batch by batch, and propose at its `chosen` events.

    Yields rows [B] of `after`, the candidates right after those events, and their features [N, F]. `done(n)` is told
    of every n events gone through.
    """
    states = UserStates(StateLayout(), live.index.dims, live.manifest.state_dims)
    for batch in batches(before, states, item_ids, FOLD_BATCH):
        fold(states, batch)
        done(len(batch))
    for at, batch in enumerate(batches(after, states, item_ids, BATCH, first_key=len(before) + 1)):
        queries = advance(live, states, batch)[2]
        keep = np.flatnonzero(chosen[at * BATCH : at * BATCH + len(batch)])
        asked = queries.at(keep)
        candidates = propose(asked, live.index, neighbours, policy, states.layout.own_half_life_s)
        features = build(asked, candidates, live.index, neighbours)
        yield at * BATCH + keep, candidates, features
        done(len(batch))


def last_before(log: EventLog, start: int) -> tuple[Positions, int]:
    """All rows, each user's last one before `start` moved to just before it; and how many those are.

    No user's own order changes, so the states do not; but each user gets a slate without ranking all the past.
    """
    newest_first = log.user[:start][::-1]
    last = np.sort(start - 1 - np.unique(newest_first, return_index=True)[1])
    older = np.setdiff1d(np.arange(start), last, assume_unique=True)
    return np.concatenate([older, last, np.arange(start, len(log))]).astype(np.int64), len(last)


def _following_items(log: EventLog, item_ids: ItemIds, asked_about: NDArray[np.bool_]) -> Positions:
    """Item row of each event's user's next event, -1 for the last one and where that is not `asked_about` [N]."""
    items = np.where(asked_about, np.append(item_ids.rows(log.item_ids), np.int32(-1))[log.item], -1)
    previous = log.previous()
    has_earlier = previous >= 0
    following = np.full(len(log), -1, np.int64)
    following[previous[has_earlier]] = items[has_earlier]
    return following


def _with_positive(candidates: Candidates, features: Floats, came: Positions) -> RankingLists:
    """The lists of candidates [N], sorted by query, on which the item that came [B] stands."""
    query = candidates.query
    hit = candidates.item == came[query]
    complete = np.zeros(len(came), np.bool_)
    complete[query[hit]] = True
    keep = complete[query]
    sizes = np.bincount(query, minlength=len(came))[complete]
    offset = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    return RankingLists(
        features=features[keep],
        own=candidates.own_count[keep] > 0,
        offset=offset,
        positive=np.flatnonzero(hit[keep]) - offset[:-1],
    )
