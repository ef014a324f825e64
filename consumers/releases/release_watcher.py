"""The release watcher: a thread that follows releases, item vectors, neighbours and rules for the ranker.

One item's way into the index: the indexer publishes its vector on `item-vectors`; `_on_vectors` decodes it into an
`ItemVectorUpdate` (`updates.py`). For the serving release that goes to the main loop, which applies it to the release's
`ItemIndex` (`ranking/retrieval/item_index.py`) between two batches; for the next release it is staged until `_load`.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing

import faiss
from kafka import KafkaConsumer, TopicPartition
from kafka.consumer.fetcher import ConsumerRecord
from kafka.errors import LogTruncationError, OffsetOutOfRangeError, RetriableError

from anabranch import messages, release
from anabranch.errors import AnabranchError, BackgroundFailure, BrokerUnavailable
from anabranch.kafka import clients
from anabranch.kafka.partitions import refuse_added_partitions
from anabranch.kafka.topics import Topics
from anabranch.messages import IndexingComplete, ReleaseNotice
from anabranch.metrics import ServingMetrics
from anabranch.ranking.pipeline import rank
from anabranch.ranking.pipeline.servable import ServableRelease
from anabranch.ranking.policy import Policy
from anabranch.ranking.retrieval.co_visit_row import CoVisitRow, co_visit_row
from anabranch.ranking.user_state.layout import StateLayout
from anabranch.ranking.vocabulary import ItemVocabulary
from anabranch.release import ReleaseError
from anabranch.release_notices import ReleaseNotices
from anabranch.settings import Settings
from consumers.releases.release_source import AnnouncedRelease
from consumers.releases.updates import (
    CoVisitUpdate,
    StagedVectors,
    SwapRelease,
    Update,
    group_by_release,
    item_vector_update,
    rule_update,
)
from consumers.runtime.background import CpuThrottle, run_in_background
from consumers.runtime.decoding import decode_notice, decode_own

log = logging.getLogger(__name__)

JOIN_TIMEOUT_S = 1.0
RECONNECT_DELAY_S = 1.0
RETRY_INTERVAL_S = 30.0
"""How long until a release that could not be loaded is tried again: its files may come, or be mended."""
READ_ALL_AGAIN = (RetriableError, BrokerUnavailable, OffsetOutOfRangeError, LogTruncationError)
"""After these errors all topics are read from the beginning, since updates are idempotent."""
MAX_POLL_RECORDS = 500
"""Records in one update: the main loop applies one update between two batches."""


class ReleaseWatcher:
    """Queues updates in the order in which the main loop must apply them.

    A release is queued as `SwapRelease` once all of its item vectors have been read: the indexer publishes
    `IndexingComplete` after the last one, and the watcher then reads up to the end offsets of that moment.
    """

    def __init__(
        self,
        settings: Settings,
        item_ids: ItemVocabulary,
        metrics: ServingMetrics,
        open_consumer: Callable[[Iterable[str]], KafkaConsumer],
    ) -> None:
        """`open_consumer` opens a consumer at the beginning of every partition of the given topics.

        It is called at the start and after every connection failure, in the watcher's thread.
        """
        self._settings = settings
        self._metrics = metrics
        self._topics = Topics(settings)
        self._item_ids = item_ids
        self._open_consumer = open_consumer
        self._updates: deque[Update] = deque()
        self._stop = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="release-watcher", daemon=True)

        self._notices = ReleaseNotices()
        self._serving: str | None = None
        """The release that was queued last."""
        self._staged = StagedVectors()
        self._complete_at_offsets: dict[str, dict[TopicPartition, int]] = {}
        """By release, the end offsets of `item-vectors` before which all of its vectors are."""
        self._discarded: set[str] = set()
        """Releases with discarded vectors: if one becomes live again, the topic is read from the beginning."""
        self._initial_end_offsets: dict[TopicPartition, int] = {}
        self._unservable: dict[str, str] = {}
        """Announced releases that cannot serve here, with the reason."""
        self._retry_at = 0.0
        """Monotonic seconds."""
        self._newest_co_visit_ms = 0

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def close(self) -> None:
        """Stop the thread."""
        self._stop.set()
        # It may be loading a release, which takes longer. It is a daemon thread and writes nothing.
        self._thread.join(JOIN_TIMEOUT_S)

    def raise_failure(self) -> None:
        """Raise the error that ended the thread: without it the ranker would go on with outdated vectors."""
        if self._failure is not None:
            if isinstance(self._failure, AnabranchError):
                raise self._failure
            raise BackgroundFailure(f"the release watcher failed: {self._failure!r}") from self._failure

    def take_updates(self, limit: int | None = None) -> Iterator[Update]:
        """Up to `limit` of the queued updates (None: all), oldest first."""
        while self._updates and limit != 0:
            yield self._updates.popleft()
            limit = None if limit is None else limit - 1

    @property
    def has_updates(self) -> bool:
        """Whether updates are queued."""
        return bool(self._updates)

    def is_unservable(self, name: str) -> bool:
        """Whether a release was announced that cannot serve here: another version made it, or its files are faulty."""
        return name in self._unservable

    def announced(self) -> list[AnnouncedRelease]:
        """See `ReleaseSource`."""
        notices = list(self._notices.newest.values())  # a copy at once: the watcher's thread adds to them
        return [AnnouncedRelease(notice, self._unservable.get(notice.release)) for notice in notices]

    @property
    def waiting_for(self) -> str:
        """What is missing before the first release can serve, for the log."""
        live = self._notices.live
        if live is None:
            return f"a live release on {self._topics.releases}"
        if live.release in self._unservable:
            return f"another release, for {live.release} cannot serve: {self._unservable[live.release]}"
        if live.release not in self._complete_at_offsets:
            return f"the indexer to publish all item vectors of release {live.release}"
        return f"release {live.release} to load"

    def _run(self) -> None:
        try:
            while not self._stop.is_set():
                try:
                    with closing(self.connect()) as consumer:
                        while not self._stop.is_set():
                            self.poll(consumer)
                except READ_ALL_AGAIN as error:
                    log.warning("the release watcher reconnects: %s", error)
                    self._stop.wait(RECONNECT_DELAY_S)
        except BaseException as error:
            self._failure = error

    def connect(self) -> KafkaConsumer:
        """A consumer at the beginning of the four topics. Runs in the watcher's thread.

        It reads all notices first, so that vectors of retired releases are discarded as they are read.
        """
        with closing(self._open_consumer([self._topics.releases])) as consumer:
            for record in clients.drain(consumer):
                self._on_notice(record)
        topics = self._topics
        consumer = self._open_consumer([topics.releases, topics.neighbours, topics.item_vectors, topics.rules])
        self._initial_end_offsets = consumer.end_offsets(list(consumer.assignment()))
        return consumer

    def poll(self, consumer: KafkaConsumer) -> None:
        """Take the records that arrived, and queue the next release if its vectors are complete."""
        yield_cpu = CpuThrottle()
        refuse_added_partitions(consumer, (self._topics.neighbours, self._topics.item_vectors))
        polled = consumer.poll(timeout_ms=clients.IDLE_WAIT_MS, max_records=MAX_POLL_RECORDS)
        for partition, records in polled.items():
            self._on_records(consumer, partition.topic, records)
        if self._serving is not None:
            yield_cpu()  # the main loop is ranking, and both threads need the GIL
        self._reread_vectors_after_rollback(consumer)
        if self._initial_end_offsets and clients.reached(consumer, self._initial_end_offsets):
            self._initial_end_offsets = {}
        if not self._initial_end_offsets:  # the first release needs the neighbours and the rules too
            self._queue_next_release(consumer)

    def _on_records(self, consumer: KafkaConsumer, topic: str, records: list[ConsumerRecord]) -> None:
        if topic == self._topics.releases:
            for record in records:
                self._on_notice(record)
        elif topic == self._topics.neighbours:
            rows = [row for record in records if (row := self._co_visit_row(record)) is not None]
            self._updates.append(CoVisitUpdate(rows))
        elif topic == self._topics.rules:
            updates = (rule_update(record, self._item_ids, self._metrics) for record in records)
            self._updates.extend(update for update in updates if update is not None)
        else:
            self._on_vectors(consumer, records)

    def _on_notice(self, record: ConsumerRecord) -> None:
        notice = decode_notice(record, self._metrics)
        if notice is None:
            return
        previous = self._notices.live
        self._notices.add(notice)
        live = self._notices.live
        if live is not None and live != previous:
            log.info("release %s is announced live", live.release)
        self._drop_stale()

    def _on_vectors(self, consumer: KafkaConsumer, records: list[ConsumerRecord]) -> None:
        for name, messages_by_item in group_by_release(records, self._metrics).items():
            if not self._may_serve(name):
                self._discard(name)
                continue
            update = item_vector_update(name, messages_by_item, self._item_ids)
            if update is not None and name == self._serving:
                self._updates.append(update)
            elif update is not None:
                self._staged.add(update)
            if isinstance(complete := messages_by_item.get(""), IndexingComplete):
                self._on_indexing_complete(consumer, complete)

    def _on_indexing_complete(self, consumer: KafkaConsumer, complete: IndexingComplete) -> None:
        """Record the end offsets. The indexer flushed every vector before this message, so all are before them."""
        log.info("the indexer has published all %d item vectors of release %s", complete.items, complete.release)
        self._complete_at_offsets[complete.release] = consumer.end_offsets(self._vector_partitions(consumer))

    def _co_visit_row(self, record: ConsumerRecord) -> CoVisitRow | None:
        decoded = decode_own(messages.neighbours, bytes.decode, record, self._metrics)
        if decoded is None:
            return None
        item_id, neighbours = decoded
        if neighbours is not None:
            self._newest_co_visit_ms = max(self._newest_co_visit_ms, neighbours.ts)
            self._metrics.co_visits_at.set(self._newest_co_visit_ms / 1000)
        return co_visit_row(item_id, neighbours, self._item_ids)

    @property
    def _fallback_release(self) -> ReleaseNotice | None:
        """The live release's parent, which may serve until the live one is loaded, if no release serves yet."""
        return self._notices.parent if self._serving is None else None

    @property
    def _live_servable(self) -> ReleaseNotice | None:
        """The live release, unless it was found to be one that cannot serve here."""
        live = self._notices.live
        return None if live is None or live.release in self._unservable else live

    def _may_serve(self, name: str) -> bool:
        """Whether to keep a release's vectors. Vectors may arrive before the first notice of their release."""
        next_releases = (self._notices.live, self._fallback_release)
        serves_next = any(notice is not None and notice.release == name for notice in next_releases)
        # Without a live release that can serve, the serving one continues: retiring it does not stop the ranker.
        serves_on = name == self._serving and self._live_servable is None
        return serves_next or serves_on or self._notices.may_become_live(name)

    def _drop_stale(self) -> None:
        for name in self._staged.releases:
            if not self._may_serve(name):
                self._discard(name)

    def _discard(self, name: str) -> None:
        self._staged.drop(name)
        self._complete_at_offsets.pop(name, None)
        self._discarded.add(name)

    def _reread_vectors_after_rollback(self, consumer: KafkaConsumer) -> None:
        """Read `item-vectors` from the beginning if vectors of the release that is to serve were discarded."""
        live = self._live_servable
        name = self._serving if live is None else live.release
        if name is None or name not in self._discarded:
            return
        log.info("reading the item vectors of release %s again", name)
        self._discarded.discard(name)
        consumer.seek_to_beginning(*self._vector_partitions(consumer))

    def _vector_partitions(self, consumer: KafkaConsumer) -> list[TopicPartition]:
        return [partition for partition in consumer.assignment() if partition.topic == self._topics.item_vectors]

    def _queue_next_release(self, consumer: KafkaConsumer) -> None:
        """Load and queue the live release once its vectors are complete; until then, its fallback.

        One that cannot be loaded does not end the ranker: in a fleet of two versions, each serves what it can.
        """
        notice = self._notices.live
        is_next = notice is not None and notice.release in self._complete_at_offsets and self._may_try(notice.release)
        if notice is not None and not is_next and self._fallback_release is not None:
            notice = self._fallback_release
        if notice is None or notice.release == self._serving or notice.release not in self._complete_at_offsets:
            return
        if not clients.reached(consumer, self._complete_at_offsets[notice.release]):
            return
        if not self._may_try(notice.release):
            return
        try:
            loaded = self._load(notice)
        except ReleaseError as error:
            self._on_unservable(notice.release, str(error))
            return
        self._unservable.pop(notice.release, None)
        self._updates.append(SwapRelease(loaded))
        if self._serving is not None:
            self._discard(self._serving)
        self._serving = notice.release
        self._drop_stale()

    def _may_try(self, name: str) -> bool:
        """Whether to load a release: one that could not be loaded is tried again after `RETRY_INTERVAL_S`."""
        return name not in self._unservable or time.monotonic() >= self._retry_at

    def _on_unservable(self, name: str, reason: str) -> None:
        self._retry_at = time.monotonic() + RETRY_INTERVAL_S
        if self._unservable.get(name) != reason:
            meanwhile = f"release {self._serving} serves on" if self._serving else "nothing ranks before one that can"
            log.warning("release %s cannot serve here, and %s: %s", name, meanwhile, reason)
        self._unservable[name] = reason

    def _load(self, notice: ReleaseNotice) -> ServableRelease:
        files = release.open_announced(self._settings.releases_dir, notice)
        live = ServableRelease.load(files, files.manifest)
        for update in self._staged.take(notice.release):
            update.apply(live.index)
        if self._serving is None:
            faiss.omp_set_num_threads(self._settings.threads)  # FAISS keeps this number per calling thread
            live.index.rebuild()
        else:
            run_in_background("index-of-next-release", live.index.rebuild).result()
        policy = Policy.from_settings(self._settings, files.manifest.policy)
        rank.warm_up(live, policy, StateLayout.from_settings(self._settings))
        log.info("release %s is loaded with %d items", notice.release, len(live.index))
        return live
