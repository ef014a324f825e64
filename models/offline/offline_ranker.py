"""A release driven over an event log by the serving core, so that an offline metric equals the online one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from anabranch.co_visit.table import CoVisitTable
from anabranch.messages import Item, Neighbours
from anabranch.ranking.event_batch import EventBatch
from anabranch.ranking.inference.item_encoder import TextEncoder, item_text
from anabranch.ranking.pipeline.rank import RankingResult, rank
from anabranch.ranking.pipeline.servable import ServableRelease
from anabranch.ranking.pipeline.user_update import reencode_stale_users, replay
from anabranch.ranking.policy import Policy
from anabranch.ranking.retrieval.co_visit_row import co_visit_row
from anabranch.ranking.retrieval.co_visit_table import CoVisitRows
from anabranch.ranking.retrieval.item_attributes import ItemAttributes
from anabranch.ranking.retrieval.query_sample import SAMPLE_SIZE, QuerySample
from anabranch.ranking.types import Rows, Slots, Vectors
from anabranch.ranking.user_state.layout import StateLayout
from anabranch.ranking.user_state.store import UserStates
from anabranch.ranking.vocabulary import ItemVocabulary
from anabranch.release import Release
from anabranch.text_embedding_cache import TextEmbeddingCache
from models.data.event_batches import NO_CUTS, REPLAY_BATCH, event_batches, move_last_events_to
from models.data.event_log import NONE, EventLog
from models.data.excluded_items import SlateRules
from models.data.sequences import Positions
from models.metrics.ranking import Ranks
from models.offline.catalogue_history import CatalogueChanges
from models.stages import Advance

RANK_BATCH = 256
"""Events in one call of the serving core when every event is ranked. The size changes memory and speed, not the slates.
An online ranker takes up to `batch_max` events at a time (2,048 by default)."""

BEFORE_ALL_MS = -2
"""Before the oldest version of every item, see `CatalogueChanges`."""


@dataclass(frozen=True)
class OfflineRanker:
    """Everything that ranks except the user states. The co-visit table stays fixed during a run.

    A slate is made after every event, also where `policy` is to rank a batch's last event of each user only: which one
    that is depends on the load of an online ranker. An idle one, whose batches have one event per user, ranks the same.
    """

    live: ServableRelease
    neighbours: CoVisitRows
    item_ids: ItemVocabulary
    policy: Policy
    layout: StateLayout
    served_from_ms: int | None = None
    """The release has ranked the events from this time on: since then, user states have gone on from event to event.
    None: it begins to serve where the ranking begins, so users are encoded from their histories, as after a swap."""
    catalogue: CatalogueChanges | None = None
    """How the catalogue changed while the events happened; None: it is not known to have changed."""

    @property
    def rules(self) -> SlateRules:
        """What decides the slates besides the models."""
        return SlateRules(self.policy, self.layout)

    def empty_states(self) -> UserStates:
        """A state store of the release's dimensions without any user."""
        return UserStates(self.layout, self.live.index.dims, self.live.manifest.state_dims)


@dataclass(frozen=True)
class OfflineRankings:
    """What a release ranked for the newest M events of a log."""

    ranks: Ranks  # [M, P] position of the event's item on its user's previous slates; NOT_ON_SLATE or NO_SLATE
    slate: Rows  # [M, k] the first placement's slate made after the event, as rows of the ranker's item ids

    @property
    def rank(self) -> Ranks:
        """[M] on the first placement"""
        return self.ranks[:, 0]


def load_servable(
    release: Release, item_ids: ItemVocabulary, items: Sequence[Item], data_dir: Path, threads: int = 1
) -> ServableRelease:
    """Load a release and index `items` as the indexer and a ranker would. `data_dir` holds the text vector cache."""
    live = ServableRelease.load(release, release.manifest, threads=threads)
    index_catalogue(live, item_ids, items, item_text_vectors(release, items, data_dir, threads))
    return live


def index_catalogue(
    live: ServableRelease, item_ids: ItemVocabulary, items: Sequence[Item], text_vectors: Vectors
) -> None:
    """Index items, of which nothing is indexed yet, by their text vectors [n, T]."""
    ids = [item.item_id for item in items]
    rows = item_ids.rows(ids)
    live.index.upsert(
        rows,
        live.item.encode(ids, text_vectors),
        np.array([item.available for item in items], np.bool_),
        item_ids.hashes(rows),
        ItemAttributes.of(items),
    )
    live.index.rebuild()


def item_text_vectors(release: Release, items: Sequence[Item], data_dir: Path, threads: int = 1) -> Vectors:
    """Text vectors [n, T] of items: see `cached_text_vectors`."""
    return cached_text_vectors(release, [item_text(item) for item in items], data_dir, threads)


def cached_text_vectors(release: Release, texts: Sequence[str], data_dir: Path, threads: int = 1) -> Vectors:
    """Text vectors [n, T] by the release's text transformer, read from the cache in `data_dir` if present."""
    cache = TextEmbeddingCache.for_release(data_dir, release.manifest)
    return cache.get(texts, lambda missing: TextEncoder(release, threads).encode(missing))


def neighbour_table(table: CoVisitTable, item_ids: ItemVocabulary, log: EventLog, width: int = 20) -> CoVisitRows:
    """The co-visit table of a log's item numbers in the form that a ranker reads."""
    rows = item_ids.rows(log.item_ids)
    neighbours = CoVisitRows(width)
    for index, item in enumerate(table.item.tolist()):
        present = table.neighbours[index] != NONE
        neighbours.set(
            int(rows[item]),
            rows[table.neighbours[index][present]],
            table.share[index][present],
            float(table.popularity[index]),
            int(table.first_seen[index]),
            float(table.repeat_rate[index]),
        )
    return neighbours


def published_table(messages: Iterable[Neighbours], item_ids: ItemVocabulary, width: int = 20) -> CoVisitRows:
    """The co-visit table that topic `neighbours` has, in the form that a ranker reads."""
    table = CoVisitRows(width)
    for message in messages:
        row = co_visit_row(message.item_id, message, item_ids)
        if row is not None:
            row.apply(table)
    return table


class Playback:
    """One run of a ranker over a log."""

    def __init__(self, ranker: OfflineRanker, before: EventLog, done: Advance = lambda n: None) -> None:
        """Replay the events `before` the ranked ones, sorted by time. Calls `done(n)` after every n events."""
        self.states = ranker.empty_states()
        self._ranker = ranker
        self._sample = QuerySample()
        self._is_tuned = False
        self._events = 0
        """Events so far; an event's key is its number."""
        self._catalogue_ms = BEFORE_ALL_MS
        """The index has the catalogue of this time; an earlier run may have left it of a later one."""
        served_from = len(before)
        if ranker.served_from_ms is not None:
            served_from = int(np.searchsorted(before.ts, ranker.served_from_ms))
        for batch in self._next_batches(before.take(slice(0, served_from)), REPLAY_BATCH):
            replay(self.states, batch)
            done(len(batch))
        for batch in self._batches_in_catalogue(before.take(slice(served_from, None)), REPLAY_BATCH):
            replay(self.states, batch, ranker.live)
            done(len(batch))
        self._move_catalogue_to(int(before.ts.max(initial=0)))
        self._tune_to(self._newest_users(before))

    def batches(self, log: EventLog) -> Iterator[EventBatch]:
        """The log's events, in the batches in which they are to be ranked or to update the `states`."""
        for batch in self._batches_in_catalogue(log, RANK_BATCH):
            yield batch
            self._tune_to(np.unique(batch.columns.slots))

    def _batches_in_catalogue(self, log: EventLog, size: int) -> Iterator[EventBatch]:
        """Batches that end at changes of the catalogue; the index has that of each batch."""
        for batch in self._next_batches(log, size, self._catalogue_cuts(log)):
            self._move_catalogue_to(int(batch.columns.ts[0]))
            yield batch

    def _move_catalogue_to(self, ts: int) -> None:
        until = max(self._catalogue_ms, ts)
        if self._ranker.catalogue is not None:
            self._ranker.catalogue.apply(self._ranker.live.index, self._catalogue_ms, until)
        self._catalogue_ms = until

    def _catalogue_cuts(self, log: EventLog) -> Positions:
        """Rows of the first events after each change of the catalogue."""
        if self._ranker.catalogue is None:
            return NO_CUTS
        return np.unique(np.searchsorted(np.maximum.accumulate(log.ts), self._ranker.catalogue.ts))

    def _next_batches(self, log: EventLog, size: int, cuts: Positions = NO_CUTS) -> Iterator[EventBatch]:
        first_key = self._events + 1
        self._events += len(log)
        return event_batches(log, self.states, self._ranker.item_ids, size, first_key, cuts)

    def _newest_users(self, log: EventLog) -> Slots:
        """Slots of the users of the newest events, as many as an index is tuned to."""
        users, newest = np.unique(log.user[::-1], return_index=True)
        chosen = users[np.argsort(newest)[:SAMPLE_SIZE]]
        return self.states.slots([log.user_ids[user] for user in chosen.tolist()])

    def _tune_to(self, slots: Slots) -> None:
        """Tune the index once there are enough users, as rankers do; a flat one needs no tuning."""
        index = self._ranker.live.index
        if self._is_tuned or not index.base.ef_search:
            return
        reencode_stale_users(self._ranker.live, self.states, slots)
        self._sample.add(self.states.columns.vector, slots)
        if self._sample.is_full:
            index.base.tune(self._sample.queries)
            self._is_tuned = True


def rank_batches(
    ranker: OfflineRanker, log: EventLog, start: int, done: Advance = lambda n: None
) -> Iterator[RankingResult]:
    """Replay the first `start` events into user states, then rank after each of the others, batch by batch.

    No place is explored: metrics are of the release's own order, and a log has no event ids, by which a ranker draws.
    Calls `done(n)` after every n events.
    """
    playback = Playback(ranker, log.take(slice(0, start)), done)
    policy = replace(ranker.policy, latest=False, explore_places=0)
    for batch in playback.batches(log.take(slice(start, None))):
        yield rank(ranker.live, ranker.neighbours, playback.states, batch, policy)
        done(len(batch))


def rank_events(ranker: OfflineRanker, log: EventLog, start: int, done: Advance = lambda n: None) -> OfflineRankings:
    """Rank every event from row `start` on.

    A user with events before `start` begins with the slate made at the last of them. NO_SLATE marks events whose user
    has no earlier event. Calls `done(n)` after every n events.
    """
    rows, before = move_last_events_to(log, start)
    ranked = list(rank_batches(ranker, log.take(rows), start - before, done))
    none = np.empty((0, len(ranker.layout.placements)), np.int32)
    ranks = np.concatenate([none, *(batch.feedback.ranks for batch in ranked)])
    slates = np.concatenate([np.empty((0, ranker.layout.slate), np.int32), *(batch.slate for batch in ranked)])
    return OfflineRankings(ranks[before:], slates[before:])
