"""A release driven offline: the serving core over a log, so that an offline figure is an online figure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from anabranch.messages import Item
from anabranch.ranking import core
from anabranch.ranking.candidates import Policy
from anabranch.ranking.item_ids import ItemIds, Rows
from anabranch.ranking.live import LiveRelease
from anabranch.ranking.neighbours import NeighbourTable
from anabranch.ranking.state import StateLayout, UserStates
from anabranch.ranking.text import item_text
from anabranch.release import Manifest
from anabranch.text_vectors import TextVectors
from models.evaluation.metrics import Ranks
from models.lists import BATCH, FOLD_BATCH, batches
from models.log import EventLog

Done = Callable[[int], None]


@dataclass(frozen=True)
class Served:
    """What a release would have shown, for N events."""

    rank: Ranks  # [N] place of the event's item on the slate its user had; NOT_ON_SLATE or NO_SLATE
    slate: Rows  # [N, slate] shown after the event, as rows of the catalogue


def load(
    folder: Path, manifest: Manifest, items: Sequence[Item], data_dir: Path, item_ids: ItemIds, threads: int = 1
) -> LiveRelease:
    """A release with its index filled as indexer and ranker would fill it, text vectors kept in `data_dir`."""
    live = LiveRelease.load(folder, manifest, threads=threads)
    ids = [item.item_id for item in items]
    text_vectors = TextVectors.of_release(data_dir, manifest).get([item_text(item) for item in items], live.text.encode)
    available = np.array([item.available for item in items], np.bool_)
    live.index.upsert(item_ids.rows(ids), live.item.encode(ids, text_vectors), available)
    live.index.rebuild()
    return live


def serve(
    live: LiveRelease,
    neighbours: NeighbourTable,
    item_ids: ItemIds,
    before: EventLog,
    window: EventLog,
    policy: Policy,
    done: Done = lambda n: None,
) -> Served:
    """Fold `before` into blank user states, then rank every event of `window`.

    The two share their id lists; the first event of a user in the window finds no slate, as online after a restore.
    `done(n)` is told of every n events gone through.
    """
    states = UserStates(StateLayout(slate=policy.slate), live.index.dims, live.manifest.state_dims)
    for batch in batches(before, states, item_ids, FOLD_BATCH):
        core.fold(states, batch)
        done(len(batch))
    ranks, slates = [np.empty(0, np.int32)], [np.empty((0, policy.slate), np.int32)]
    for batch in batches(window, states, item_ids, BATCH, first_key=len(before) + 1):
        ranked = core.rank(live, neighbours, states, batch, policy)
        ranks.append(ranked.rank)
        slates.append(ranked.slate)
        done(len(batch))
    return Served(np.concatenate(ranks), np.concatenate(slates))
