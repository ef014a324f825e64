"""The input of a peer's process, and what all peers share: reading events, the release, and ranking messages.

Where a peer may do less than our ranker, it does less, so that no ratio is too much in our favour.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
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
from anabranch.ranking.pipeline.servable import ServableRelease
from anabranch.ranking.types import Rows, Vectors
from anabranch.ranking.vocabulary import ItemVocabulary
from anabranch.settings import Settings
from anabranch.settings_loader import load
from consumers.ranker.output import SCORE_DECIMALS

HISTORY = 64
"""Newest items in a user's state, as in our ranker."""
IDLE_TIMEOUT_S = 60.0
"""How long a peer waits for its next event."""


class Work(Struct, frozen=True):
    """The work of one process: answer the first `events` events from `first_offsets` on, and end."""

    way: str
    """The way of the module, as in `Peer`."""
    group: str
    first_offsets: Offsets
    events: int
    topic: str
    """The topic of its rankings."""
    folder: str
    """A new folder for its files."""
    batch: int
    """Events a batch updater takes at once."""

    @property
    def figures(self) -> Path:
        """The file to which a batch updater writes its `Update`s, as a JSON list."""
        return Path(self.folder, "updates.json")

    def write(self) -> Path:
        """Write it for `read_work`. Returns the path of the file."""
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


def read_work() -> tuple[Settings, Work]:
    """The input of this process: settings from the environment, the work from the file in the first argument."""
    return load(None, os.environ), msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=Work)


def read_log(settings: Settings, work: Work) -> Iterator[tuple[ConsumerRecord, Event, bool]]:
    """Every event of the log, and whether it must be answered: those of the work must, earlier ones are history.

    Ends after the last that must be answered. Raises `BrokerUnavailable` if there is no event for `IDLE_TIMEOUT_S`.
    """
    consumer = clients.reader(settings, [Topics(settings).events])
    remaining, last_event_at = work.events, time.monotonic()
    try:
        while remaining:
            polled = consumer.poll(timeout_ms=200, max_records=clients.POLL_RECORDS)
            if polled:
                last_event_at = time.monotonic()
            elif time.monotonic() - last_event_at > IDLE_TIMEOUT_S:
                raise BrokerUnavailable(f"no event for {IDLE_TIMEOUT_S:.0f} s, and {remaining} are missing")
            for record in chain.from_iterable(polled.values()):
                to_answer = record.offset >= work.first_offsets.get(record.partition, 0)
                if remaining or not to_answer:
                    yield record, messages.events.decode(record.value), to_answer
                    remaining -= to_answer
    finally:
        consumer.close()


@dataclass(frozen=True)
class Served:
    """The release that our ranker serves, with all items in its index; an item has the same row in every process."""

    live: ServableRelease
    item_ids: ItemVocabulary
    slate: int

    @classmethod
    def load(cls, settings: Settings) -> Self:
        """The release in the settings' folder, with the item vectors that the indexer published."""
        faiss.omp_set_num_threads(1)  # as our ranker does: a second thread does not help with one query
        files = release.open_release(release.folders(settings.releases_dir)[0])
        live, item_ids = ServableRelease.load(files, files.manifest), ItemVocabulary()
        read = clients.read_to_end(settings, [Topics(settings).item_vectors])
        decoded = (messages.item_vectors.decode(record.value) for record in read if record.value is not None)
        vectors = sorted(
            (vector for vector in decoded if isinstance(vector, ItemVector)), key=lambda vector: vector.item_id
        )
        live.index.upsert(
            item_ids.rows(vector.item_id for vector in vectors),
            np.stack([np.frombuffer(vector.vector, "<f4") for vector in vectors]),
            np.array([vector.available for vector in vectors]),
        )
        live.index.rebuild()
        return cls(live, item_ids, settings.slate_size)

    def ranking(self, event: Event, partition: int, offset: int, rows: Rows, scores: Vectors) -> bytes:
        """The ranking of the event at that offset: the best [slate] of items [n] by score [n]."""
        best = np.argsort(-scores)[: self.slate]
        ids = self.item_ids.ids(rows[best].tolist())
        return ranking(event, partition, offset, self.live.manifest.id, ids, scores[best])


def ranking(event: Event, partition: int, offset: int, name: str, items: list[str], scores: Vectors) -> bytes:
    """The ranking of the event at that offset, of items with their scores [n], best first."""
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
