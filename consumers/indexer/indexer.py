"""The indexer: reads `items`, and publishes each item's vector for the live release on `item-vectors`.

One item's way into the index: `_take` decodes it, `_publish` has `ItemEmbedder` (`item_embedder.py`) embed it and sends
the vector. The ranker's release watcher (`consumers/releases/release_watcher.py`) reads it there.
"""

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
from consumers.runtime.dead_letter import DeadLetter
from consumers.runtime.decoding import decode_item, decode_own
from consumers.runtime.pacing import Throttle

log = logging.getLogger(__name__)

CHUNK = 1024
NEW_TEXTS = 64
"""Texts embedded by the transformer between two polls: a changed item waits for no more than these."""
IDLE_MS = 50
ANSWER_MS = 1_000


class Entry(Struct, frozen=True):
    """What the indexer needs of an item."""

    text: str
    available: bool


class Indexer:
    """Run one process: it holds the whole catalogue, and a second would publish the same vectors again.

    It assigns itself all partitions. Its group's committed offsets say which invalid items are dead letters already.
    """

    def __init__(self, settings: Settings, metrics: IndexerMetrics) -> None:
        self._settings = settings
        self._metrics = metrics
        self._topics = Topics(settings)
        self._catalogue: dict[str, Entry] = {}
        self._notices = ReleaseNotices()
        self._embedder: ItemEmbedder | None = None
        self._published: dict[str, bytes] = {}
        """Digest of the value on `item-vectors` for the live release, by item id."""
        self._changed: dict[str, None] = {}
        """Items added, changed or removed while this process runs; they are published before the backlog."""
        self._backlog: list[str] = []
        self._is_complete = True
        self._gauges_due, self._progress_log_due, self._waiting_log_due = Throttle(1), Throttle(5), Throttle(10)

        self._producer = clients.producer(settings)
        self._delivery = CheckedProducer(self._producer)
        self._consumer: KafkaConsumer = clients.group_consumer(
            settings, settings.group("indexer"), max_poll_records=clients.POLL_RECORDS
        )
        self._partitions = clients.assign(self._consumer, [self._topics.items, self._topics.releases])
        self._committed_offsets = {
            partition: self._consumer.committed(partition) or 0 for partition in self._partitions
        }
        self._consumer.seek_to_beginning()

    def run(self, stop: threading.Event) -> None:
        """Index until `stop` is set. Records that were polled are then published, and their offsets committed."""
        try:
            for record in clients.drain(self._consumer):
                self._take(record)
            self._start_release(at_start=True)
            while not stop.is_set():
                self._poll(0 if self._backlog else IDLE_MS)
                self._start_release()
                self._publish_changed()
                self._publish_backlog()
                self._report_metrics()
        finally:
            self._close()

    def _poll(self, timeout_ms: int) -> None:
        for records in self._consumer.poll(timeout_ms=timeout_ms).values():
            for record in records:
                self._take(record)

    def _take(self, record: ConsumerRecord) -> None:
        if record.topic == self._topics.releases:
            self._on_notice(record)
            return
        received = decode_item(record, self._settings.max_message_bytes)
        if isinstance(received, DeadLetter):
            self._send_dead_letter(received)
            return
        item_id, item = received
        if item is None:
            self._catalogue.pop(item_id, None)
        else:
            self._catalogue[item_id] = Entry(text=item_text(item), available=item.available)
        self._changed[item_id] = None

    def _on_notice(self, record: ConsumerRecord) -> None:
        read = decode_own(messages.releases, bytes.decode, record, self._metrics)
        notice = None if read is None else read[1]
        if notice is not None:
            self._notices.add(notice)

    def _send_dead_letter(self, letter: DeadLetter) -> None:
        partition = TopicPartition(letter.record.topic, letter.record.partition)
        if letter.record.offset >= self._committed_offsets[partition]:
            self._send(letter.to_record(self._topics.dead_letter))
            self._metrics.dead_letters.labels(letter.category).inc()

    def _start_release(self, at_start: bool = False) -> None:
        """When another release becomes live, load it and put the whole catalogue in the backlog."""
        notice = self._notices.live
        if notice is None:
            if self._embedder is None and self._waiting_log_due():
                log.info("waiting for a live release on %s", self._topics.releases)
            return
        if self._embedder is not None and self._embedder.manifest.id == notice.release:
            return
        files = release.open_announced(self._settings.releases_dir, notice)
        self._embedder = ItemEmbedder(self._settings, files, self._metrics)
        manifest = self._embedder.manifest
        self._metrics.live_release.info(release_info(manifest.id, manifest.strategy, manifest.created))
        self._published = self._read_published(manifest.id) if at_start else {}
        gone = self._published.keys() - self._catalogue.keys()
        self._changed = dict.fromkeys(gone)
        # `pop` takes the shortest text first: texts of similar length share a batch of the transformer.
        self._backlog = sorted(self._catalogue, key=lambda item_id: -len(self._catalogue[item_id].text))
        self._is_complete = False
        log.info("release %s is live: %d items to vectorise", manifest.id, len(self._backlog))

    def _read_published(self, name: str) -> dict[str, bytes]:
        """Digests of the values on `item-vectors`, so that a restart publishes only what differs."""
        published: dict[str, bytes] = {}
        for record in clients.read_to_end(self._settings, [self._topics.item_vectors]):
            read = decode_own(messages.item_vectors, topics.split_vector_key, record, self._metrics)
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
        if self._embedder is None or not self._changed:
            return
        changed, self._changed = list(self._changed), {}
        for start in range(0, len(changed), CHUNK):
            self._publish(changed[start : start + CHUNK])
        self._delivery.flush()

    def _publish_backlog(self) -> None:
        if self._embedder is None or self._is_complete:
            return
        if self._backlog:
            self._publish(self._next_chunk(self._embedder))
            if self._progress_log_due():
                log.info("%d items to go", len(self._backlog))
        elif self._catalogue:
            self._publish_complete(self._embedder.manifest.id)
        elif self._waiting_log_due():
            log.info("waiting for items on %s", self._topics.items)

    def _next_chunk(self, embedder: ItemEmbedder) -> list[str]:
        """The next items of the backlog: up to `CHUNK`, of which up to `NEW_TEXTS` have texts to embed."""
        chunk: list[str] = []
        new = 0
        while self._backlog and len(chunk) < CHUNK and new < NEW_TEXTS:
            item_id = self._backlog.pop()
            entry = self._catalogue.get(item_id)
            if entry is not None:
                new += not embedder.knows(entry.text)
                chunk.append(item_id)
        return chunk

    def _publish_complete(self, name: str) -> None:
        """Publish `IndexingComplete` once every vector is on the broker: rankers then read up to the end offsets."""
        self._delivery.flush()
        coverage = IndexingComplete(release=name, items=len(self._published), ts=int(time.time() * 1000))
        self._send(OutboundRecord(self._topics.item_vectors, topics.completion_key(name), encode(coverage)))
        self._delivery.flush()
        self._is_complete = True
        log.info("the catalogue is covered for release %s: %d items", name, coverage.items)

    def _publish(self, item_ids: Sequence[str]) -> None:
        """Publish the vectors that differ from those on `item-vectors`, and tombstones of removed items."""
        assert self._embedder is not None, "nothing is published before a release is live"
        name = self._embedder.manifest.id
        held = [item_id for item_id in item_ids if item_id in self._catalogue]
        entries = [self._catalogue[item_id] for item_id in held]
        vectors = self._embedder.vectors(held, [entry.text for entry in entries])
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

    def _report_metrics(self) -> None:
        if not self._gauges_due():
            return
        self._metrics.items.set(len(self._catalogue))
        self._metrics.backlog.set(len(self._backlog) + len(self._changed))
        with suppress(RetriableError):  # a broker is unavailable: the next call tries again
            positions = self._commit()
            ends = self._consumer.end_offsets(self._partitions, timeout_ms=ANSWER_MS)
            self._observe_lag(positions, ends)

    def _observe_lag(self, positions: Mapping[TopicPartition, int], ends: Mapping[TopicPartition, int]) -> None:
        for partition, end in ends.items():
            self._metrics.lag.labels(partition.topic, str(partition.partition)).set(max(0, end - positions[partition]))

    def _commit(self) -> dict[TopicPartition, int]:
        """Commit the positions, after everything published for those records is on the broker."""
        positions = {partition: self._consumer.position(partition) or 0 for partition in self._partitions}
        if positions != self._committed_offsets:
            self._delivery.flush()
            self._consumer.commit(
                {partition: OffsetAndMetadata(offset, "", -1) for partition, offset in positions.items()}
            )
            self._committed_offsets = positions
        return positions

    def _close(self) -> None:
        try:
            self._delivery.flush()
        finally:
            self._producer.close()
            self._consumer.close(autocommit=False)


def _digest(value: bytes) -> bytes:
    return blake2b(value, digest_size=8).digest()
