"""A thread that follows releases, item vectors and neighbours, and readies the next release off the main loop."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Iterator

import faiss
import numpy as np
from kafka import KafkaConsumer, TopicPartition
from kafka.consumer.fetcher import ConsumerRecord
from kafka.errors import RetriableError

from anabranch import messages, release
from anabranch.errors import AnabranchError, BackgroundFailure, BrokerUnavailable
from anabranch.kafka import clients
from anabranch.kafka.topics import Topics
from anabranch.messages import Coverage, Neighbours, ReleaseNotice
from anabranch.metrics import ConsumerMetrics
from anabranch.ranking.pipeline import rank
from anabranch.ranking.pipeline.servable import LiveRelease
from anabranch.ranking.policy import Policy
from anabranch.ranking.vocabulary import ItemIds
from anabranch.settings import Settings
from consumers.releases.staging import Staging, by_release, vector_change
from consumers.releases.updates import Adopt, Change, NeighbourChange, NeighbourRow
from consumers.runtime import own_messages
from consumers.runtime.background import Rests, beside

log = logging.getLogger(__name__)

CLOSE_S = 1.0
BEGIN_AGAIN_S = 1.0
CHUNK = 500
"""Messages in one change: what the main loop takes at one batch boundary."""


class ReleaseFollower:
    """Queues changes in the order in which the main loop must apply them."""

    def __init__(self, settings: Settings, item_ids: ItemIds, metrics: ConsumerMetrics) -> None:
        self._settings = settings
        self._metrics = metrics
        self._topics = Topics(settings)
        self._item_ids = item_ids
        self._changes: deque[Change] = deque()
        self._stop = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="release-follower", daemon=True)

        self._notices: dict[str, ReleaseNotice] = {}
        self._live: ReleaseNotice | None = None
        self._adopted: str | None = None
        self._staging = Staging()
        self._covered_at: dict[str, dict[TopicPartition, int]] = {}
        self._passed_over: set[str] = set()
        """Releases some of whose vectors were not kept: should one be live again, the topic is read anew."""

    def start(self) -> None:
        """Begin to follow."""
        self._thread.start()

    def close(self) -> None:
        """Stop following."""
        self._stop.set()
        self._thread.join(CLOSE_S)  # it may be loading a release; it is a daemon, and writes nothing

    def check(self) -> None:
        """Raises what ended the thread, for the process must not rank on by half."""
        if self._failure is not None:
            if isinstance(self._failure, AnabranchError):
                raise self._failure
            raise BackgroundFailure(f"following releases failed: {self._failure!r}") from self._failure

    def changes(self, limit: int | None = None) -> Iterator[Change]:
        """At most `limit` of the changes that wait, oldest first."""
        while self._changes and limit != 0:
            yield self._changes.popleft()
            limit = None if limit is None else limit - 1

    @property
    def awaited(self) -> str:
        """What this thread waits for, for people who wonder why nothing is ranked."""
        if self._live is None:
            return f"a live release on {self._topics.releases}"
        if self._live.release not in self._covered_at:
            return f"the indexer to cover the catalogue for release {self._live.release}"
        return f"release {self._live.release} to load"

    def _run(self) -> None:
        try:
            while not self._stop.is_set():
                try:
                    self._follow()
                except (RetriableError, BrokerUnavailable) as error:  # what was read already changes nothing twice
                    log.warning("following releases begins again: %s", error)
                    self._stop.wait(BEGIN_AGAIN_S)
        except BaseException as error:
            self._failure = error

    def _follow(self) -> None:
        for record in clients.read_to_end(self._settings, [self._topics.releases]):
            self._note(record)  # first, so that vectors of releases long gone are not kept
        names = [self._topics.releases, self._topics.neighbours, self._topics.item_vectors]
        consumer = clients.reader(self._settings, names)
        try:
            ends = consumer.end_offsets(list(consumer.assignment()))
            while not self._stop.is_set():
                rest = Rests()
                polled = consumer.poll(timeout_ms=100, max_records=CHUNK)
                for at, records in polled.items():
                    self._take(consumer, at.topic, records)
                if self._adopted is not None:
                    rest()  # something ranks, and both take turns at the interpreter's lock
                self._rewind(consumer)
                if ends and clients.reached(consumer, ends):
                    ends = {}
                if not ends:  # not before the neighbours are in: a release ranks with them
                    self._adopt(consumer)
        finally:
            consumer.close()

    def _take(self, consumer: KafkaConsumer, topic: str, records: list[ConsumerRecord]) -> None:
        if topic == self._topics.releases:
            for record in records:
                self._note(record)
        elif topic == self._topics.neighbours:
            rows = [row for record in records if (row := self._neighbours(record)) is not None]
            self._changes.append(NeighbourChange(rows))
        else:
            self._take_vectors(consumer, records)

    def _note(self, record: ConsumerRecord) -> None:
        read = own_messages.read(messages.releases, bytes.decode, record, self._metrics)
        if read is None:
            return
        name, notice = read
        if notice is None:
            self._notices.pop(name, None)
            return
        self._notices[notice.release] = notice
        if notice.status == "live" and notice != self._live:
            log.info("release %s is to be live", notice.release)
            self._live = notice
        self._tidy()

    @property
    def _stand_in(self) -> ReleaseNotice | None:
        """What a process that has just started may rank with until the live release is covered: its parent."""
        if self._adopted is not None or self._live is None or self._live.parent is None:
            return None
        return self._notices.get(self._live.parent)

    def _tidy(self) -> None:
        for name in self._staging.releases:
            if not self._may_serve(name):
                self._pass_over(name)

    def _may_serve(self, name: str) -> bool:
        """Whether vectors of a release are worth keeping; those of an unheard one are, for topics have no order."""
        if name in {notice.release for notice in (self._live, self._stand_in) if notice is not None}:
            return True
        notice = self._notices.get(name)
        return notice is None or notice.status in ("candidate", "shadow")

    def _pass_over(self, name: str) -> None:
        self._staging.drop(name)
        self._covered_at.pop(name, None)
        self._passed_over.add(name)

    def _rewind(self, consumer: KafkaConsumer) -> None:
        """Read `item-vectors` anew if the live release is one whose vectors were passed over: a roll-back."""
        if self._live is None or self._live.release not in self._passed_over:
            return
        log.info("reading the item vectors of release %s anew", self._live.release)
        self._passed_over.discard(self._live.release)
        consumer.seek_to_beginning(*self._vector_partitions(consumer))

    def _vector_partitions(self, consumer: KafkaConsumer) -> list[TopicPartition]:
        return [at for at in consumer.assignment() if at.topic == self._topics.item_vectors]

    def _take_vectors(self, consumer: KafkaConsumer, records: list[ConsumerRecord]) -> None:
        for name, entries in by_release(records, self._metrics).items():
            if not self._may_serve(name):
                self._pass_over(name)
                continue
            change = vector_change(name, entries, self._item_ids)
            if change is not None and name == self._adopted:
                self._changes.append(change)
            elif change is not None:
                self._staging.add(change)
            if isinstance(coverage := entries.get(""), Coverage):
                self._note_coverage(consumer, coverage)

    def _note_coverage(self, consumer: KafkaConsumer, coverage: Coverage) -> None:
        """The indexer flushed every vector before it said so: what the log holds by now covers the catalogue."""
        log.info("the indexer covers %d items for release %s", coverage.items, coverage.release)
        self._covered_at[coverage.release] = consumer.end_offsets(self._vector_partitions(consumer))

    def _adopt(self, consumer: KafkaConsumer) -> None:
        """Ready the live release, once its vectors are all here, and queue it; before it is covered, its stand-in."""
        notice = self._live
        if notice is not None and notice.release not in self._covered_at and self._stand_in is not None:
            notice = self._stand_in
        if notice is None or notice.release == self._adopted or notice.release not in self._covered_at:
            return
        if not clients.reached(consumer, self._covered_at[notice.release]):
            return
        live = self._load(notice)
        self._changes.append(Adopt(live))
        if self._adopted is not None:
            self._pass_over(self._adopted)
        self._adopted = notice.release
        self._tidy()

    def _load(self, notice: ReleaseNotice) -> LiveRelease:
        files = release.announced(self._settings.releases_dir, notice)
        live = LiveRelease.load(files, files.manifest)
        for change in self._staging.take(notice.release):
            change.apply(live.index)
        if self._adopted is None:
            faiss.omp_set_num_threads(self._settings.threads)  # FAISS goes by the calling thread
            live.index.rebuild()
        else:
            beside("index-of-next-release", live.index.rebuild).result()
        rank.warm_up(live, Policy.of(self._settings))
        log.info("release %s is ready with %d items", notice.release, len(live.index))
        return live

    def _neighbours(self, record: ConsumerRecord) -> NeighbourRow | None:
        read = own_messages.read(messages.neighbours, bytes.decode, record, self._metrics)
        if read is None:
            return None
        item_id, message = read
        if message is None:
            return NeighbourRow(self._item_ids.row(item_id))
        return neighbour_row(message, self._item_ids)


def neighbour_row(message: Neighbours, item_ids: ItemIds) -> NeighbourRow:
    """A message of `neighbours` as a row of the table."""
    return NeighbourRow(
        row=item_ids.row(message.item_id),
        rows=item_ids.rows(near.item_id for near in message.neighbours),
        weights=np.array([near.score for near in message.neighbours], np.float32),
        popularity=message.popularity,
        first_seen=message.first_seen,
        repeat_rate=message.repeat_rate,
    )
