"""Training lists for the list ranker: candidates with features, made by the serving core at events of a log."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from anabranch.ranking.pipeline.features import build_features
from anabranch.ranking.pipeline.user_update import update_user_states
from anabranch.ranking.retrieval.candidate_columns import Candidates
from anabranch.ranking.retrieval.candidates import propose
from anabranch.ranking.types import Mask
from anabranch.ranking.user_state.snapshot import UserSnapshots
from anabranch.ranking.vocabulary import ItemVocabulary
from models.data.event_batches import move_last_events_to
from models.data.event_log import EventLog
from models.data.session_rule import session_ends
from models.networks.list_ranker import Floats, Positions, RankingLists
from models.offline.candidate_coverage import ProposedItems
from models.offline.offline_ranker import OfflineRanker, Playback
from models.stages import Advance


@dataclass(frozen=True)
class CandidateBatch:
    """The candidates that the serving core proposes right after B events."""

    row: Positions  # [B], rows of the log that the events are in
    queries: UserSnapshots  # B
    candidates: Candidates  # N, each of one of the B queries
    features: Floats  # [N, F]


@dataclass(frozen=True)
class ListSample:
    """Which events of a log get a training list."""

    start: int
    """The first row that may have one."""
    held_out: Positions
    """Rows without one: they are reserved for evaluation."""
    lists: int
    """Expected number of lists, at most: every event with a list is drawn with the same probability."""
    random_seed: int


@dataclass(frozen=True)
class SampledLists:
    """The lists of the sampled events whose item is among the candidates."""

    lists: RankingLists
    proposed: ProposedItems
    """Before all sampled events, also those that have no list."""


def ranking_lists(
    ranker: OfflineRanker, log: EventLog, sample: ListSample, done: Advance = lambda n: None
) -> SampledLists:
    """Lists of candidates, each made from its user's state right before a sampled event.

    A list whose candidates do not include the event's item is dropped. Calls `done(n)` after every n events.
    """
    rows, moved = move_last_events_to(log, sample.start)
    log, start = log.take(rows), sample.start - moved
    after = log.take(slice(start, None))
    previous = after.previous()
    next_item = _next_items(after, previous, ranker.item_ids, ~np.isin(rows[start:], sample.held_out))
    labelled = next_item >= 0
    probability = sample.lists / max(int(labelled.sum()), 1)
    chosen = labelled & (np.random.default_rng(sample.random_seed).random(len(after)) < probability)
    begins_session = _next_begins_session(after, previous)
    lists, proposed = [], []
    for batch in candidate_batches(ranker, log.take(slice(0, start)), after, chosen, done):
        item = next_item[batch.row]
        lists.append(_lists_with_positive(batch, item, begins_session[batch.row]))
        proposed.append(ProposedItems.of_queries(batch.candidates, item))
    return SampledLists(RankingLists.concatenate(lists), ProposedItems.concatenate(proposed))


def candidates_before(
    ranker: OfflineRanker, log: EventLog, start: int, rows: Positions, done: Advance = lambda n: None
) -> Iterator[tuple[Positions, CandidateBatch]]:
    """The candidates right before the events at `rows` [M], all from `start` on and none the first of its user.

    With each batch comes which of the M events each of its queries is for. Other events only update user states, so
    this is faster than `rank_events`.
    """
    order, moved = move_last_events_to(log, start)  # rows from `start` on keep their index
    log, start = log.take(order), start - moved
    next_event = np.full(len(log) - start, -1, np.int64)
    next_event[log.previous()[rows] - start] = np.arange(len(rows))
    before, after = log.take(slice(0, start)), log.take(slice(start, None))
    for batch in candidate_batches(ranker, before, after, next_event >= 0, done):
        yield next_event[batch.row], batch


def candidate_batches(
    ranker: OfflineRanker,
    before: EventLog,
    after: EventLog,
    chosen: NDArray[np.bool_],
    done: Advance = lambda n: None,
) -> Iterator[CandidateBatch]:
    """Replay `before` into user states, then update them with `after` and propose candidates at its `chosen` events.

    `chosen` [len(after)] selects the events; `row` of each batch is of `after`. Calls `done(n)` after every n events.
    """
    playback = Playback(ranker, before, done)
    start = 0
    for batch in playback.batches(after):
        update = update_user_states(ranker.live, playback.states, batch)
        chosen_events = np.flatnonzero(chosen[start : start + len(batch)])
        queries = update.snapshots.select(chosen_events)
        index, neighbours = ranker.live.index, ranker.neighbours
        candidates = propose(queries, index, neighbours, ranker.policy, ranker.layout.half_life_s)
        features = build_features(queries, candidates, index, neighbours, ranker.policy.first_classes)
        yield CandidateBatch(start + chosen_events, queries, candidates, features)
        start += len(batch)
        done(len(batch))


def _next_items(log: EventLog, previous: Positions, item_ids: ItemVocabulary, eligible: Mask) -> Positions:
    """Item row of the next event of each event's user [N]; -1 if there is none or the next is not `eligible` [N].

    `previous` [N] as `EventLog.previous` has it.
    """
    items = np.where(eligible, np.append(item_ids.rows(log.item_ids), np.int32(-1))[log.item], -1)
    has_earlier = previous >= 0
    next_item = np.full(len(log), -1, np.int64)
    next_item[previous[has_earlier]] = items[has_earlier]
    return next_item


def _next_begins_session(log: EventLog, previous: Positions) -> Mask:
    """Mask [N] of the events after which their user's next one is the first of a session. `previous` as above."""
    later = np.flatnonzero(previous >= 0)
    earlier = previous[later]
    begins = np.zeros(len(log), np.bool_)
    begins[earlier] = session_ends(log.session[earlier], log.session[later], log.ts[later] - log.ts[earlier])
    return begins


def _lists_with_positive(batch: CandidateBatch, next_item: Positions, begins_session: Mask) -> RankingLists:
    """The lists of a batch that include the item of the next event [B]."""
    query = batch.candidates.query  # [N], ascending
    hit = batch.candidates.item == next_item[query]
    complete = np.zeros(len(next_item), np.bool_)
    complete[query[hit]] = True
    keep = complete[query]
    sizes = np.bincount(query, minlength=len(next_item))[complete]
    offset = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    return RankingLists(
        features=batch.features[keep],
        own=batch.candidates.own_count[keep] > 0,
        offset=offset,
        positive=np.flatnonzero(hit[keep]) - offset[:-1],
        begins_session=begins_session[complete],
    )
