"""The indexer: reads `items`, and publishes each item's vector for the live release on `item-vectors`.

One item's way into the index: `_on_record` decodes it, and `_publish` embeds it with an `ItemEmbedder`
(`item_embedder.py`) and sends the vector. The ranker's release watcher (`consumers/releases/release_watcher.py`) reads
the vector.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from hashlib import blake2b

from kafka import TopicPartition
from kafka.consumer.fetcher import ConsumerRecord
from kafka.errors import LogTruncationError, OffsetOutOfRangeError, RetriableError
from msgspec import Struct

from anabranch import messages, release
from anabranch.errors import EventsLost
from anabranch.kafka import clients as kafka_clients
from anabranch.kafka import topics
from anabranch.kafka.group_membership import lost_positions
from anabranch.kafka.partitions import refuse_added_partitions
from anabranch.kafka.producer import CheckedProducer
from anabranch.kafka.records import OutboundRecord
from anabranch.kafka.topics import Topics
from anabranch.messages import IndexingComplete, Item, ItemVector, encode
from anabranch.metrics import release_info
from anabranch.ranking.inference.item_encoder import item_text
from anabranch.ranking.types import Vectors
from anabranch.release_notices import ReleaseNotices
from anabranch.settings import Settings
from anabranch.throttle import Throttle
from consumers.indexer.clients import IndexerClients
from consumers.indexer.committed_offsets import CommittedOffsets
from consumers.indexer.item_embedder import ItemEmbedder
from consumers.indexer.metrics import IndexerMetrics
from consumers.runtime.dead_letter import DeadLetter
from consumers.runtime.decoding import decode_item, decode_notice, decode_own

log = logging.getLogger(__name__)

RETRY_INTERVAL_S = 30.0
"""How long until a release that could not be loaded is tried again."""
CHUNK_ITEMS = 1024
CHUNK_NEW_TEXTS = 64
"""Texts that the transformer embeds between two polls: this bounds how long a changed item waits."""


class CatalogueEntry(Struct, frozen=True):
    """The part of an item that the indexer needs."""

    text: str
    available: bool
    category: list[str]
    brand: str | None
    domain: str | None
    price: float | None

    @classmethod
    def of(cls, item: Item) -> CatalogueEntry:
        """That part of an item."""
        return cls(item_text(item), item.available, item.category, item.brand, item.domain, item.price)

    def with_vector(self, item_id: str, release_id: str, vector: Vectors) -> ItemVector:
        """The message of the item's vector [d] in a release."""
        return ItemVector(
            item_id=item_id,
            release=release_id,
            vector=vector.astype("<f4").tobytes(),
            available=self.available,
            category=self.category,
            brand=self.brand,
            domain=self.domain,
            price=self.price,
        )


class Indexer:
    """Keeps `item-vectors` up to date with `items` and the live release.

    Run one process: it holds the whole catalogue, so a second one would publish the same vectors again. The committed
    offsets of its group tell which invalid items have already become dead letters.
    """

    def __init__(self, settings: Settings, clients: IndexerClients, metrics: IndexerMetrics) -> None:
        self._settings = settings
        self._clients = clients
        self._consumer = clients.consumer
        self._delivery = CheckedProducer(clients.producer)
        self._metrics = metrics
        self._topics = Topics(settings)
        self._catalogue: dict[str, CatalogueEntry] = {}
        self._notices = ReleaseNotices()
        self._embedder: ItemEmbedder | None = None
        """Embeds items for the live release; None before there is one."""
        self._published: dict[str, bytes] = {}
        """Digest of the value on `item-vectors` for the live release, by item id."""
        self._changed: dict[str, None] = {}
        """Items added, changed or removed while this process runs; they are published before the backlog."""
        self._backlog: list[str] = []
        self._is_complete = True
        """Whether `IndexingComplete` has been published for the live release."""
        self._group_offsets = CommittedOffsets(self._consumer, clients.log_reader)
        self._committed_offsets: dict[TopicPartition, int] = {}
        self._faulty: str | None = None
        """The live release, if it could not be loaded."""
        self._lag: int | None = None
        """Messages behind the end of the partition that is furthest behind; None while that is not known."""
        self._gauges_due, self._progress_log_due, self._waiting_log_due = Throttle(1), Throttle(5), Throttle(10)
        self._retry_due = Throttle(RETRY_INTERVAL_S)

    def run(self, stop: threading.Event) -> None:
        """Index until `stop` is set. Then wait until the broker has everything that was sent, and close the clients."""
        try:
            self._committed_offsets = self._group_offsets.load()
            for record in kafka_clients.drain(self._consumer):
                self._on_record(record)
            self._start_release()
            while not stop.is_set():
                self._poll(kafka_clients.IDLE_WAIT_MS if self._is_idle else 0)
                self._start_release()
                self._publish_changed()
                self._publish_backlog()
                self._report_metrics()
                self._metrics.loop.turned(self._waits_for)
        finally:
            self._close()

    @property
    def _is_idle(self) -> bool:
        """Whether there is nothing to publish before the next record. A release is never complete without items."""
        return self._is_complete or not self._catalogue

    @property
    def _waits_for(self) -> str | None:
        """What is missing before every item is indexed as it comes; None if nothing is."""
        if self._embedder is None:
            return f"waiting for a live release on {self._topics.releases}"
        if not self._is_complete:
            name, items = self._embedder.manifest.id, len(self._backlog)
            return f"{items} items left to index for release {name}" if items else f"waiting for {self._topics.items}"
        if self._lag is None:
            return "the ends of the topics are not known yet"
        limit = self._settings.ready_max_lag
        return f"{self._lag} messages behind: more than ready_max_lag, {limit}" if self._lag > limit else None

    def _poll(self, timeout_ms: int) -> None:
        """Take what has arrived. Raises `EventsLost` if a log no longer has the position of this process."""
        refuse_added_partitions(self._consumer, [self._topics.items])
        try:
            polled = self._consumer.poll(timeout_ms=timeout_ms)
        except (OffsetOutOfRangeError, LogTruncationError) as error:
            lost = ", ".join(f"{topic}, partition {partition}" for topic, partition in lost_positions(error))
            raise EventsLost(
                f"{lost} was trimmed, truncated or created again under the indexer: start it again, and it reads all "
                "items that the log has, and publishes what differs"
            ) from error
        for records in polled.values():
            for record in records:
                self._on_record(record)

    def _on_record(self, record: ConsumerRecord) -> None:
        self._metrics.loop.beat()
        if record.topic == self._topics.releases:
            self._on_notice(record)
            return
        decoded = decode_item(record, self._settings.max_message_bytes)
        if isinstance(decoded, DeadLetter):
            self._send_dead_letter(decoded)
            return
        item_id, item = decoded
        if item is None:
            self._catalogue.pop(item_id, None)
        else:
            self._catalogue[item_id] = CatalogueEntry.of(item)
        self._changed[item_id] = None

    def _on_notice(self, record: ConsumerRecord) -> None:
        notice = decode_notice(record, self._metrics)
        if notice is not None:
            self._notices.add(notice)

    def _send_dead_letter(self, dead_letter: DeadLetter) -> None:
        """Send it unless it was sent before a restart, which the committed offsets tell."""
        record = dead_letter.record
        if record.offset >= self._committed_offsets[TopicPartition(record.topic, record.partition)]:
            self._send(dead_letter.to_record(self._topics.dead_letter))
            self._metrics.dead_letters.labels(dead_letter.category).inc()

    def _start_release(self) -> None:
        """When another release becomes live, load it and put the whole catalogue in the backlog.

        Some vectors of the first one may be on `item-vectors` already. One that cannot be loaded is tried again: its
        files may come, or another release be announced.
        """
        notice = self._notices.live
        if notice is None:
            if self._embedder is None and self._waiting_log_due():
                log.info("waiting for a live release on %s", self._topics.releases)
            return
        if self._embedder is not None and self._embedder.manifest.id == notice.release:
            return
        if notice.release == self._faulty and not self._retry_due():
            return
        is_first = self._embedder is None
        try:
            files = release.open_announced(self._settings.releases_dir, notice)
            self._embedder = ItemEmbedder(self._settings, files, self._metrics)
        except release.ReleaseError as error:
            log.warning("no vectors of the live release %s can be made: %s", notice.release, error)
            self._faulty = notice.release
            return
        self._faulty = None
        manifest = self._embedder.manifest
        self._metrics.live_release.info(release_info(manifest.id, manifest.strategy, manifest.created))
        self._published = self._read_published(manifest.id) if is_first else {}
        self._changed = dict.fromkeys(self._published.keys() - self._catalogue.keys())  # these need tombstones
        # `pop` takes the shortest text first: texts of similar length share a batch of the transformer.
        self._backlog = sorted(self._catalogue, key=lambda item_id: -len(self._catalogue[item_id].text))
        self._is_complete = False
        log.info("release %s is live: %d items to index", manifest.id, len(self._backlog))

    def _read_published(self, name: str) -> dict[str, bytes]:
        """Digests of a release's values on `item-vectors`, so that a restart publishes only what differs."""
        published: dict[str, bytes] = {}
        for record in self._clients.log_reader.read_to_end([self._topics.item_vectors]):
            self._metrics.loop.beat()
            decoded = decode_own(messages.item_vectors, topics.split_vector_key, record, self._metrics)
            if decoded is None:
                continue
            item_id, release_name = decoded[0]
            if release_name != name or not item_id:  # an empty item id: `IndexingComplete`
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
        for start in range(0, len(changed), CHUNK_ITEMS):
            self._publish(changed[start : start + CHUNK_ITEMS])
            self._metrics.loop.beat()
        self._delivery.flush()

    def _publish_backlog(self) -> None:
        if self._embedder is None or self._is_complete:
            return
        if self._backlog:
            self._publish(self._next_chunk(self._embedder))
            if self._progress_log_due():
                log.info("%d items left to index", len(self._backlog))
        elif self._catalogue:
            self._publish_complete(self._embedder.manifest.id)
        elif self._waiting_log_due():
            log.info("waiting for items on %s", self._topics.items)

    def _next_chunk(self, embedder: ItemEmbedder) -> list[str]:
        """The next items of the backlog: up to `CHUNK_ITEMS`, of which up to `CHUNK_NEW_TEXTS` have texts to embed."""
        chunk: list[str] = []
        new_texts = 0
        while self._backlog and len(chunk) < CHUNK_ITEMS and new_texts < CHUNK_NEW_TEXTS:
            item_id = self._backlog.pop()
            entry = self._catalogue.get(item_id)
            if entry is not None:
                new_texts += not embedder.has_cached(entry.text)
                chunk.append(item_id)
        return chunk

    def _publish_complete(self, name: str) -> None:
        """Publish `IndexingComplete` once every vector is on the broker: rankers then read up to the end offsets."""
        self._delivery.flush()
        complete = IndexingComplete(release=name, items=len(self._published), ts=int(time.time() * 1000))
        self._send(OutboundRecord(self._topics.item_vectors, topics.completion_key(name), encode(complete)))
        self._delivery.flush()
        self._is_complete = True
        log.info("indexing of release %s is complete: %d items", name, complete.items)

    def _publish(self, item_ids: Sequence[str]) -> None:
        """Publish the vectors that differ from those on `item-vectors`, and tombstones of removed items."""
        assert self._embedder is not None, "nothing is published before a release is live"
        name = self._embedder.manifest.id
        present = [item_id for item_id in item_ids if item_id in self._catalogue]
        entries = [self._catalogue[item_id] for item_id in present]
        vectors = self._embedder.vectors(present, [entry.text for entry in entries])
        for item_id, entry, vector in zip(present, entries, vectors, strict=True):
            self._publish_vector(item_id, name, encode(entry.with_vector(item_id, name, vector)))
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

    def _send(self, record: OutboundRecord) -> None:
        self._delivery.send(record.topic, record.key, record.value, record.headers)

    def _report_metrics(self) -> None:
        if not self._gauges_due():
            return
        self._metrics.items.set(len(self._catalogue))
        self._metrics.backlog.set(len(self._backlog) + len(self._changed))
        self._lag = None
        with suppress(RetriableError):  # no broker is available: the next call tries again
            positions = self._commit()
            self._report_lag(positions, kafka_clients.fetched_ends(self._consumer, positions))

    def _report_lag(self, positions: Mapping[TopicPartition, int], end_offsets: Mapping[TopicPartition, int]) -> None:
        lags = {partition: end - positions[partition] for partition, end in end_offsets.items()}
        for partition, lag in lags.items():
            self._metrics.lag.labels(partition.topic, str(partition.partition)).set(lag)
        self._lag = max(lags.values(), default=None) if len(lags) == len(positions) else None

    def _commit(self) -> dict[TopicPartition, int]:
        """Commit the positions once the broker has everything that was sent for the records before them."""
        positions = {partition: self._consumer.position(partition) or 0 for partition in self._committed_offsets}
        if positions != self._committed_offsets:
            self._delivery.flush()
            self._group_offsets.commit(positions)
            self._committed_offsets = positions
        return positions

    def _close(self) -> None:
        try:
            self._delivery.flush()
        finally:
            self._clients.close()


def _digest(value: bytes) -> bytes:
    return blake2b(value, digest_size=8).digest()
