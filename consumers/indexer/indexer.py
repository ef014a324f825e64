"""The indexer: items in, their vectors for the live release out, and word when the catalogue is covered."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from hashlib import blake2b

from kafka import KafkaConsumer, TopicPartition
from kafka.consumer.fetcher import ConsumerRecord
from kafka.errors import RetriableError
from kafka.structs import OffsetAndMetadata
from msgspec import Struct

from anabranch import messages, release
from anabranch.kafka import clients, topics
from anabranch.kafka.producer import CheckedProducer
from anabranch.kafka.records import OutboundRecord
from anabranch.kafka.topics import Topics
from anabranch.messages import IndexingComplete, ItemVector, encode
from anabranch.metrics import IndexerMetrics, release_info
from anabranch.ranking.inference.item_encoder import item_text
from anabranch.release_notices import ReleaseNotices
from anabranch.settings import Settings
from consumers.indexer.item_embedder import ItemEmbedder
from consumers.runtime import own_messages
from consumers.runtime.dead_letter import DeadLetter
from consumers.runtime.decoding import decode_item
from consumers.runtime.throttle import Every

log = logging.getLogger(__name__)

CHUNK = 1024
NEW_TEXTS = 64
"""Texts the transformer reads before changes to the catalogue get their turn: an upsert waits for no more."""
IDLE_MS = 50
ANSWER_MS = 1_000


class Entry(Struct, frozen=True):
    """What is kept of an item."""

    text: str
    available: bool


class Indexer:
    """One process, outside any group: it holds the catalogue, and two would only publish the same vectors twice.

    Its group's committed offsets say which unreadable items are among the dead letters already.
    """

    def __init__(self, settings: Settings, metrics: IndexerMetrics) -> None:
        self._settings = settings
        self._metrics = metrics
        self._topics = Topics(settings)
        self._catalogue: dict[str, Entry] = {}
        self._notices = ReleaseNotices()
        self._vectoriser: ItemEmbedder | None = None
        self._published: dict[str, bytes] = {}
        """Digest of what `item-vectors` holds for the live release, by item."""
        self._changed: dict[str, None] = {}
        """Items that came, changed or went while this process runs; they go before the backlog."""
        self._backlog: list[str] = []
        self._covered = True
        self._gauges_due, self._told, self._waiting_told = Every(1), Every(5), Every(10)

        self._producer = clients.producer(settings)
        self._delivery = CheckedProducer(self._producer)
        self._consumer: KafkaConsumer = clients.group_consumer(
            settings, settings.group("indexer"), max_poll_records=clients.POLL_RECORDS
        )
        self._partitions = clients.assign(self._consumer, [self._topics.items, self._topics.releases])
        self._answered = {at: self._consumer.committed(at) or 0 for at in self._partitions}
        self._consumer.seek_to_beginning()

    def run(self, stop: threading.Event) -> None:
        """Index until told to stop; what has been taken from the log is then published and committed."""
        try:
            for record in clients.drain(self._consumer):
                self._take(record)
            self._follow_release(at_start=True)
            while not stop.is_set():
                self._poll(0 if self._backlog else IDLE_MS)
                self._follow_release()
                self._publish_changed()
                self._publish_backlog()
                self._observe()
        finally:
            self._close()

    def _poll(self, timeout_ms: int) -> None:
        for records in self._consumer.poll(timeout_ms=timeout_ms).values():
            for record in records:
                self._take(record)

    def _take(self, record: ConsumerRecord) -> None:
        if record.topic == self._topics.releases:
            self._note(record)
            return
        received = decode_item(record, self._settings.max_message_bytes)
        if isinstance(received, DeadLetter):
            self._bury(received)
            return
        item_id, item = received
        if item is None:
            self._catalogue.pop(item_id, None)
        else:
            self._catalogue[item_id] = Entry(text=item_text(item), available=item.available)
        self._changed[item_id] = None

    def _note(self, record: ConsumerRecord) -> None:
        read = own_messages.read(messages.releases, bytes.decode, record, self._metrics)
        notice = None if read is None else read[1]
        if notice is not None:
            self._notices.add(notice)

    def _bury(self, letter: DeadLetter) -> None:
        at = TopicPartition(letter.record.topic, letter.record.partition)
        if letter.record.offset >= self._answered[at]:
            self._send(letter.outgoing(self._topics.dead_letter))
            self._metrics.dead_letters.labels(letter.category).inc()

    def _follow_release(self, at_start: bool = False) -> None:
        """On a new live release, put the whole catalogue in the backlog."""
        notice = self._notices.live
        if notice is None:
            if self._vectoriser is None and self._waiting_told():
                log.info("waiting for a live release on %s", self._topics.releases)
            return
        if self._vectoriser is not None and self._vectoriser.manifest.id == notice.release:
            return
        files = release.open_announced(self._settings.releases_dir, notice)
        self._vectoriser = ItemEmbedder(self._settings, files, self._metrics)
        manifest = self._vectoriser.manifest
        self._metrics.live_release.info(release_info(manifest.id, manifest.strategy, manifest.created))
        self._published = self._read_published(manifest.id) if at_start else {}
        gone = self._published.keys() - self._catalogue.keys()
        self._changed = dict.fromkeys(gone)
        # Longest first off the end: texts of like length share a batch of the transformer.
        self._backlog = sorted(self._catalogue, key=lambda item_id: -len(self._catalogue[item_id].text))
        self._covered = False
        log.info("release %s is live: %d items to vectorise", manifest.id, len(self._backlog))

    def _read_published(self, name: str) -> dict[str, bytes]:
        """What an earlier run left on `item-vectors`, so that a restart publishes only what differs."""
        published: dict[str, bytes] = {}
        for record in clients.read_to_end(self._settings, [self._topics.item_vectors]):
            read = own_messages.read(messages.item_vectors, topics.split_vector_key, record, self._metrics)
            if read is None:
                continue
            item_id, of = read[0]
            if of != name or not item_id:
                continue
            if record.value is None:
                published.pop(item_id, None)
            else:
                published[item_id] = _digest(record.value)
        return published

    def _publish_changed(self) -> None:
        if self._vectoriser is None or not self._changed:
            return
        changed, self._changed = list(self._changed), {}
        for start in range(0, len(changed), CHUNK):
            self._publish(changed[start : start + CHUNK])
        self._delivery.flush()

    def _publish_backlog(self) -> None:
        if self._vectoriser is None or self._covered:
            return
        if self._backlog:
            self._publish(self._next_chunk(self._vectoriser))
            if self._told():
                log.info("%d items to go", len(self._backlog))
        elif self._catalogue:
            self._announce(self._vectoriser.manifest.id)
        elif self._waiting_told():
            log.info("waiting for items on %s", self._topics.items)

    def _next_chunk(self, vectoriser: ItemEmbedder) -> list[str]:
        """Items off the backlog, few where the transformer has to read their texts."""
        chunk: list[str] = []
        new = 0
        while self._backlog and len(chunk) < CHUNK and new < NEW_TEXTS:
            item_id = self._backlog.pop()
            entry = self._catalogue.get(item_id)
            if entry is not None:
                new += not vectoriser.knows(entry.text)
                chunk.append(item_id)
        return chunk

    def _announce(self, name: str) -> None:
        """Every vector first, for rankers take the log's end at this word as the end of the catalogue."""
        self._delivery.flush()
        coverage = IndexingComplete(release=name, items=len(self._published), ts=int(time.time() * 1000))
        self._send(OutboundRecord(self._topics.item_vectors, topics.completion_key(name), encode(coverage)))
        self._delivery.flush()
        self._covered = True
        log.info("the catalogue is covered for release %s: %d items", name, coverage.items)

    def _publish(self, item_ids: Sequence[str]) -> None:
        """Publish what differs from what `item-vectors` holds: vectors of items, tombstones of those gone."""
        assert self._vectoriser is not None, "nothing is published before a release is live"
        name = self._vectoriser.manifest.id
        held = [item_id for item_id in item_ids if item_id in self._catalogue]
        entries = [self._catalogue[item_id] for item_id in held]
        vectors = self._vectoriser.vectors(held, [entry.text for entry in entries])
        for item_id, entry, vector in zip(held, entries, vectors, strict=True):
            payload = vector.astype("<f4").tobytes()
            message = ItemVector(item_id=item_id, release=name, vector=payload, available=entry.available)
            self._publish_vector(item_id, name, encode(message))
        for item_id in item_ids:
            if item_id not in self._catalogue and self._published.pop(item_id, None) is not None:
                self._send(OutboundRecord(self._topics.item_vectors, topics.vector_key(item_id, name), None))
                self._metrics.removed.inc()

    def _publish_vector(self, item_id: str, name: str, value: bytes) -> None:
        digest = _digest(value)
        if self._published.get(item_id) != digest:
            self._send(OutboundRecord(self._topics.item_vectors, topics.vector_key(item_id, name), value))
            self._published[item_id] = digest
            self._metrics.vectors.inc()

    def _send(self, message: OutboundRecord) -> None:
        self._delivery.send(message.topic, message.key, message.value, message.headers)

    def _observe(self) -> None:
        if not self._gauges_due():
            return
        self._metrics.items.set(len(self._catalogue))
        self._metrics.backlog.set(len(self._backlog) + len(self._changed))
        with suppress(RetriableError):  # a broker is away: there is a next time, and it is no reason to end
            positions = self._commit()
            ends = self._consumer.end_offsets(self._partitions, timeout_ms=ANSWER_MS)
            self._observe_lag(positions, ends)

    def _observe_lag(self, positions: Mapping[TopicPartition, int], ends: Mapping[TopicPartition, int]) -> None:
        for at, end in ends.items():
            self._metrics.lag.labels(at.topic, str(at.partition)).set(max(0, end - positions[at]))

    def _commit(self) -> dict[TopicPartition, int]:
        """Commit what has been taken, after everything it gave rise to is on the broker."""
        positions = {at: self._consumer.position(at) or 0 for at in self._partitions}
        if positions != self._answered:
            self._delivery.flush()
            self._consumer.commit({at: OffsetAndMetadata(offset, "", -1) for at, offset in positions.items()})
            self._answered = positions
        return positions

    def _close(self) -> None:
        try:
            self._delivery.flush()
        finally:
            self._producer.close()
            self._consumer.close(autocommit=False)


def _digest(value: bytes) -> bytes:
    return blake2b(value, digest_size=8).digest()
