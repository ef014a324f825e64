"""A release over a stretch of the log, driven by the core that serves: an offline figure is an online figure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from anabranch.messages import Item
from anabranch.ranking.inference.item_encoder import TextEncoder, item_text
from anabranch.ranking.pipeline.rank import NO_SLATE, Ranked, fold, rank
from anabranch.ranking.pipeline.servable import LiveRelease
from anabranch.ranking.policy import Policy
from anabranch.ranking.retrieval.co_visit_table import NeighbourTable
from anabranch.ranking.types import Rows, Vectors
from anabranch.ranking.user_state.store import StateLayout, UserStates
from anabranch.ranking.vocabulary import ItemIds
from anabranch.release import Release
from anabranch.text_embedding_cache import TextVectors
from models.co_visit.model import CoVisitModel
from models.data.event_log import NONE, EventLog
from models.evaluation.prequential import ServedLog, predict
from models.evaluation.slices import Mask, cut_slices
from models.metrics.ranking import Ranks
from models.offline.ranking_lists import FOLD_BATCH, batches, last_before
from models.stages import Advance

RANK_BATCH = 256
"""The ranker's own default batch cap."""


@dataclass(frozen=True)
class Ranker:
    """All that ranks but the user states. `neighbours` stay as they are for the whole stretch."""

    live: LiveRelease
    neighbours: NeighbourTable
    item_ids: ItemIds
    policy: Policy = field(default_factory=Policy)
    layout: StateLayout = field(default_factory=StateLayout)


@dataclass(frozen=True)
class Trial:
    """Where the items of M events stood: on the candidate's slates, the incumbent's and the co-visit table's."""

    user: NDArray[np.int32]  # [M]
    candidate: Ranks  # [M]
    incumbent: Ranks | None  # [M], None where nothing serves yet
    co_visit: Ranks  # [M]
    slices: Mapping[str, Mask] = field(default_factory=dict)
    """Which of the events belong to each slice, [M] each; see `cut_slices`."""


def load(release: Release, item_ids: ItemIds, items: Sequence[Item], data_dir: Path, threads: int = 1) -> LiveRelease:
    """A release whose index is filled as indexer and ranker would fill it; text vectors are kept in `data_dir`."""
    live = LiveRelease.load(release, release.manifest, threads=threads)
    ids = [item.item_id for item in items]
    text_vectors = texts_of(release, items, data_dir, threads)
    available = np.array([item.available for item in items], np.bool_)
    live.index.upsert(item_ids.rows(ids), live.item.encode(ids, text_vectors), available)
    live.index.rebuild()
    return live


def texts_of(release: Release, items: Sequence[Item], data_dir: Path, threads: int = 1) -> Vectors:
    """Text vectors [n, T] of items by the release's transformer, those kept in `data_dir` taken from there."""
    kept = TextVectors.of_release(data_dir, release.manifest)
    return kept.get([item_text(item) for item in items], lambda texts: TextEncoder(release, threads).encode(texts))


def drive(ranker: Ranker, log: EventLog, start: int, done: Advance = lambda n: None) -> Iterator[Ranked]:
    """Fold the first `start` events into user states, then rank the others, batch by batch, as a ranker would.

    `done(n)` is told of every n events.
    """
    states = UserStates(ranker.layout, ranker.live.index.dims, ranker.live.manifest.state_dims)
    for batch in batches(log.take(slice(0, start)), states, ranker.item_ids, FOLD_BATCH):
        fold(states, batch)
        done(len(batch))
    for batch in batches(log.take(slice(start, None)), states, ranker.item_ids, RANK_BATCH, first_key=start + 1):
        yield rank(ranker.live, ranker.neighbours, states, batch, ranker.policy)
        done(len(batch))


@dataclass(frozen=True)
class Shown:
    """What a release showed from some event on: M events."""

    rank: Ranks  # [M] place of the event's item on its user's slate; NOT_ON_SLATE or NO_SLATE
    slate: Rows  # [M, k] made after the event, as rows of the ranker's item ids


def show(ranker: Ranker, log: EventLog, start: int, done: Advance = lambda n: None) -> Shown:
    """Rank every event from `start` on.

    A user whose last event is older than `start` has been shown the slate made then; NO_SLATE is for those without
    an earlier event.
    """
    rows, before = last_before(log, start)
    ranked = list(drive(ranker, log.take(rows), start - before, done))
    ranks = np.concatenate([np.empty(0, np.int32), *(batch.rank for batch in ranked)])
    slates = np.concatenate([np.empty((0, ranker.policy.slate), np.int32), *(batch.slate for batch in ranked)])
    return Shown(ranks[before:], slates[before:])


def release_ranks(ranker: Ranker, log: EventLog, start: int, done: Advance = lambda n: None) -> Ranks:
    """Where the item of each event from `start` on stood on its user's slate, [len(log) - start]; see `show`."""
    return show(ranker, log, start, done).rank


def served_log(log: EventLog, shown: Shown, release_id: str) -> ServedLog:
    """The account a release would have left had it shown this for the log's newest events: for `account`."""
    ranks = np.full(len(log), NO_SLATE, np.int32)
    ranks[len(log) - len(shown.rank) :] = shown.rank
    release = np.where(ranks == NO_SLATE, -1, 0).astype(np.int32)
    return ServedLog(log, ranks, release, (release_id,))


def run_trial(
    candidate: Ranker,
    incumbent: Ranker | None,
    co_visit: CoVisitModel,
    log: EventLog,
    start: int,
    done: Advance = lambda n: None,
    domains: Sequence[str | None] = (),
) -> Trial:
    """All three on the events from `start` on whose user had a slate.

    `co_visit` has learned the log up to `start`, and learns on, event by event, to its end. `done(n)` is told of
    every n events, each of the log's counting once for everyone in the trial. `domains` are the items', by number.
    """
    candidate_ranks = release_ranks(candidate, log, start, done)
    incumbent_ranks = None if incumbent is None else release_ranks(incumbent, log, start, done)
    judged = (candidate_ranks != NO_SLATE) & (log.item[start:] != NONE)
    scored = np.concatenate([np.zeros(start, np.bool_), judged])
    predicted = predict(log, scored, [co_visit], candidate.policy, done, learned=start)
    return Trial(
        user=log.user[start:][judged],
        candidate=candidate_ranks[judged],
        incumbent=None if incumbent_ranks is None else incumbent_ranks[judged],
        co_visit=np.array(predicted.ranks[co_visit.name], np.int32),
        slices=cut_slices(log, start, np.flatnonzero(scored), np.array(predicted.repeat, np.bool_), domains),
    )
