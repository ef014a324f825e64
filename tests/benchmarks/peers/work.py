"""What a peer's process is told, and what all peers have in common: events, release, messages.

Where a peer could do less than our ranker, it does less, so that no ratio is higher than it should be.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import faiss
import msgspec
import numpy as np
from kafka.consumer.fetcher import ConsumerRecord
from msgspec import Struct

from anabranch import messages, release
from anabranch.errors import BrokerUnavailable
from anabranch.kafka import clients
from anabranch.kafka.offsets import Offsets
from anabranch.kafka.topics import Topics
from anabranch.messages import Cause, Event, ItemVector, RankedItem, Ranking, encode
from anabranch.ranking.pipeline.servable import LiveRelease
from anabranch.ranking.types import Rows, Vectors
from anabranch.ranking.vocabulary import ItemIds
from anabranch.settings import Settings
from anabranch.settings_loader import load
from consumers.ranker.output import SCORE_DECIMALS

HISTORY = 64
"""Newest items of a user that a peer keeps, as our ranker does."""
PATIENCE_S = 60.0
"""How long a peer waits for its next event."""


class Work(Struct, frozen=True):
    """What one process is to do: answer the first `events` events from `since` on, and end."""

    way: str
    """Which of its ways it takes."""
    group: str
    since: Offsets
    events: int
    topic: str
    """Where its rankings go."""
    folder: str
    """Its own, new."""
    batch: int
    """Events a batch updater takes at once."""

    @property
    def figures(self) -> Path:
        """Where a batch updater leaves its `Update`s, as a JSON list."""
        return Path(self.folder, "updates.json")

    def write(self) -> Path:
        """For `told`; the file."""
        path = Path(self.folder, "work.json")
        path.write_bytes(msgspec.json.encode(self))
        return path


class Update(Struct, frozen=True):
    """One update of a batch updater."""

    events: int
    rankings: int
    """One for each user of the batch."""
    seconds: float
    """Until the rankings were acknowledged."""


def told() -> tuple[Settings, Work]:
    """What this process was started for: settings from the environment, the work from the file it was given."""
    return load(None, os.environ), msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=Work)


def log_of(settings: Settings, work: Work) -> Iterator[tuple[ConsumerRecord, Event, bool]]:
    """Every event of the log, and whether it is to be answered: first the history, which is not, then the work.

    Ends after the last to be answered. Raises `BrokerUnavailable` where that does not come.
    """
    consumer = clients.reader(settings, [Topics(settings).events])
    left, heard = work.events, time.monotonic()
    try:
        while left:
            polled = consumer.poll(timeout_ms=200, max_records=clients.CHUNK)
            if polled:
                heard = time.monotonic()
            elif time.monotonic() - heard > PATIENCE_S:
                raise BrokerUnavailable(f"waited {PATIENCE_S:.0f} s for the next event, {left} before the end")
            for record in (one for records in polled.values() for one in records):
                asked = record.offset >= work.since.get(record.partition, 0)
                if left or not asked:
                    yield record, messages.events.decode(record.value), asked
                    left -= asked
    finally:
        consumer.close()


@dataclass(frozen=True)
class Served:
    """The release that our ranker serves, with every item in its index. Items have the same rows in every process."""

    live: LiveRelease
    item_ids: ItemIds
    slate: int

    @classmethod
    def load(cls, settings: Settings) -> Self:
        """The release of the settings' folder, with the vectors that the indexer has published."""
        faiss.omp_set_num_threads(1)  # as our ranker does: for one query a second thread only waits for the first
        files = release.opened(release.folders(settings.releases_dir)[0])
        live, item_ids = LiveRelease.load(files, files.manifest), ItemIds()
        read = clients.read_to_end(settings, [Topics(settings).item_vectors])
        decoded = (messages.item_vectors.decode(record.value) for record in read if record.value is not None)
        vectors = sorted((one for one in decoded if isinstance(one, ItemVector)), key=lambda one: one.item_id)
        live.index.upsert(
            item_ids.rows(one.item_id for one in vectors),
            np.stack([np.frombuffer(one.vector, "<f4") for one in vectors]),
            np.array([one.available for one in vectors]),
        )
        live.index.rebuild()
        return cls(live, item_ids, settings.slate_size)

    def ranking(self, event: Event, partition: int, offset: int, rows: Rows, scores: Vectors) -> bytes:
        """The message for an event that stands there: the best [slate] of some items [n] by score [n]."""
        best = np.argsort(-scores)[: self.slate]
        ids = self.item_ids.ids(rows[best].tolist())
        return ranking(event, partition, offset, self.live.manifest.id, ids, scores[best])


def ranking(event: Event, partition: int, offset: int, name: str, items: list[str], scores: Vectors) -> bytes:
    """The message for an event that stands there, of items with their scores [n], best first."""
    rounded = np.round(scores.astype(np.float64), SCORE_DECIMALS).tolist()
    return encode(
        Ranking(
            user_id=event.user_id,
            release=name,
            cause=Cause(event_id=event.event_id, partition=partition, offset=offset, ts=event.ts),
            slate=list(map(RankedItem, items, rounded)),
            ts=time.time_ns() // 1_000_000,
        )
    )
