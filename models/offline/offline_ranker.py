"""A release driven over an event log by the serving core, so that an offline metric equals the online one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from anabranch.messages import Item
from anabranch.ranking.inference.item_encoder import TextEncoder, item_text
from anabranch.ranking.pipeline.rank import RankingResult, rank
from anabranch.ranking.pipeline.servable import ServableRelease
from anabranch.ranking.pipeline.user_update import replay
from anabranch.ranking.policy import Policy
from anabranch.ranking.retrieval.co_visit_table import CoVisitRows
from anabranch.ranking.types import Rows, Vectors
from anabranch.ranking.user_state.layout import StateLayout
from anabranch.ranking.user_state.store import UserStates
from anabranch.ranking.vocabulary import ItemVocabulary
from anabranch.release import Release
from anabranch.text_embedding_cache import TextEmbeddingCache
from models.co_visit.table import CoVisitTable
from models.data.event_log import NONE, EventLog
from models.metrics.ranking import Ranks
from models.offline.event_batches import event_batches, move_last_events_to
from models.stages import Advance

RANK_BATCH = 256
"""Events in one call of the serving core when every event is ranked. The size changes memory and
speed, not the slates. An online ranker takes up to `batch_max`
events at a time (2,048 by default)."""
REPLAY_BATCH = 4096
"""Events in one call when events only update user states."""


@dataclass(frozen=True)
class OfflineRanker:
    """Everything that ranks except the user states. The co-visit table stays fixed during a run."""

    live: ServableRelease
    neighbours: CoVisitRows
    item_ids: ItemVocabulary
    policy: Policy = field(default_factory=Policy)
    layout: StateLayout = field(default_factory=StateLayout)

    def empty_states(self) -> UserStates:
        """A state store of the release's dimensions without any user."""
        return UserStates(self.layout, self.live.index.dims, self.live.manifest.state_dims)


@dataclass(frozen=True)
class OfflineRankings:
    """What a release ranked for the newest M events of a log."""

    rank: Ranks  # [M] position of the event's item on its user's previous slate; NOT_ON_SLATE or NO_SLATE
    slate: Rows  # [M, k] the slate made after the event, as rows of the ranker's item ids


def load_servable(
    release: Release, item_ids: ItemVocabulary, items: Sequence[Item], data_dir: Path, threads: int = 1
) -> ServableRelease:
    """Load a release and index `items` as the indexer and a ranker would. `data_dir` holds the text vector cache."""
    live = ServableRelease.load(release, release.manifest, threads=threads)
    ids = [item.item_id for item in items]
    text_vectors = item_text_vectors(release, items, data_dir, threads)
    available = np.array([item.available for item in items], np.bool_)
    rows = item_ids.rows(ids)
    live.index.upsert(rows, live.item.encode(ids, text_vectors), available, item_ids.hashes(rows))
    live.index.rebuild()
    return live


def item_text_vectors(release: Release, items: Sequence[Item], data_dir: Path, threads: int = 1) -> Vectors:
    """Text vectors [n, T] of items by the release's text transformer, read from the cache in `data_dir` if present."""
    cache = TextEmbeddingCache.for_release(data_dir, release.manifest)
    return cache.get([item_text(item) for item in items], lambda texts: TextEncoder(release, threads).encode(texts))


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


def rank_batches(
    ranker: OfflineRanker, log: EventLog, start: int, done: Advance = lambda n: None
) -> Iterator[RankingResult]:
    """Replay the first `start` events into user states, then rank the others batch by batch, as a ranker would.

    No place is explored: metrics are of the release's own order, and a log has no event ids, by which a ranker draws.
    Calls `done(n)` after every n events.
    """
    states, policy = ranker.empty_states(), ranker.policy.without_exploration
    for batch in event_batches(log.take(slice(0, start)), states, ranker.item_ids, REPLAY_BATCH):
        replay(states, batch)
        done(len(batch))
    for batch in event_batches(log.take(slice(start, None)), states, ranker.item_ids, RANK_BATCH, first_key=start + 1):
        yield rank(ranker.live, ranker.neighbours, states, batch, policy)
        done(len(batch))


def rank_events(ranker: OfflineRanker, log: EventLog, start: int, done: Advance = lambda n: None) -> OfflineRankings:
    """Rank every event from row `start` on.

    A user with events before `start` begins with the slate made at the last of them. NO_SLATE marks events whose user
    has no earlier event. Calls `done(n)` after every n events.
    """
    rows, before = move_last_events_to(log, start)
    ranked = list(rank_batches(ranker, log.take(rows), start - before, done))
    ranks = np.concatenate([np.empty(0, np.int32), *(batch.feedback.rank for batch in ranked)])
    slates = np.concatenate([np.empty((0, ranker.policy.slate), np.int32), *(batch.slate for batch in ranked)])
    return OfflineRankings(ranks[before:], slates[before:])
