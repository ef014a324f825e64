"""The neighbours job: counts co-visits of `events` as they come, and publishes rows that changed on `neighbours`.

One event's way into the table: `_poll` decodes it, `CoVisitStream.learn` counts it, and `_publish` sends the rows of
the items that it changed. The ranker's release watcher (`consumers/releases/release_watcher.py`) reads them.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence

import numpy as np
from kafka import TopicPartition
from kafka.consumer.fetcher import ConsumerRecord
from kafka.errors import LogTruncationError, OffsetOutOfRangeError

from anabranch import release
from anabranch.co_visit.changed_items import ChangedItems
from anabranch.co_visit.columns import taken
from anabranch.co_visit.shard import Shard
from anabranch.co_visit.stream import CoVisitStream, StreamLimits, warm_up
from anabranch.co_visit.table import neighbour_messages
from anabranch.co_visit.text_prior import TEXT_NEIGHBOURS
from anabranch.co_visit_rule import CoVisitRule
from anabranch.errors import EventsLost
from anabranch.kafka import clients as kafka_clients
from anabranch.kafka.group_membership import lost_positions
from anabranch.kafka.log_bounds import HeldPosition, LogBounds, describe, find_loss
from anabranch.kafka.partitions import refuse_added_partitions
from anabranch.kafka.records import OutboundRecord
from anabranch.kafka.topics import Topics, key
from anabranch.messages import encode
from anabranch.release import Manifest, Release
from anabranch.release_notices import ReleaseNotices
from anabranch.settings import Settings
from anabranch.throttle import Throttle
from consumers.neighbours import saved_counts
from consumers.neighbours.clients import NeighboursClients
from consumers.neighbours.metrics import NeighboursMetrics
from consumers.neighbours.published_rows import PublishedRows
from consumers.neighbours.saved_counts import SavedCounts, SavedPosition
from consumers.neighbours.waiting_rows import WaitingRows
from consumers.runtime.decoding import decode_events, decode_notice
from consumers.runtime.publishers import TransactionAborted

log = logging.getLogger(__name__)

TICK_S = 0.25
CATCHING_UP = 1_000
"""Events behind, of one partition, from which on no row goes before others: once, everything was new."""
POLL_WAIT_MS = 200
SAVE_INTERVAL_S = 60.0
"""A restart reads the events of so long again."""
MAX_SAVING_SHARE = 0.05
"""Of the time, this share at most goes into saving."""
RETRY_INTERVAL_S = 30.0
"""How long until a release that could not be opened is tried again."""


class NeighboursJob:
    """Keeps topic `neighbours` up to date with topic `events`, by the rule of the live release.

    A process counts the events of all partitions, and keeps and publishes the rows of its shard. Run one process for
    each shard: of two for the same, one ends with an error, because they fence each other.
    """

    def __init__(self, settings: Settings, clients: NeighboursClients, metrics: NeighboursMetrics) -> None:
        self._settings = settings
        self._clients = clients
        self._consumer = clients.consumer
        self._metrics = metrics
        self._topics = Topics(settings)
        self._shard = Shard.from_settings(settings)
        metrics.shards.labels(str(self._shard.number)).set(self._shard.count)
        self._path = saved_counts.path_of(settings)
        self._limits = StreamLimits(settings.max_users, settings.dedupe_window)
        self._notices = ReleaseNotices()
        self._live: str | None = None
        """The release whose rule counts; None before there is one."""
        self._rule: CoVisitRule | None = None
        self._stream: CoVisitStream | None = None
        self._width = 0
        self._published = PublishedRows(0)
        self._waiting = WaitingRows()
        self._topic_ids: dict[int, str] = {}
        """By partition of `events`."""
        self._lag: int | None = None
        """Events left to count, of the partition that has most; None while that is not known."""
        self._tick, self._retry_due, self._waiting_log_due = Throttle(TICK_S), Throttle(RETRY_INTERVAL_S), Throttle(10)
        self._save_at_s = time.monotonic() + SAVE_INTERVAL_S

    def run(self, stop: threading.Event) -> None:
        """Count and publish until `stop` is set. Then save, and close the clients."""
        try:
            warm_up(self._limits)
            while not stop.is_set():
                self._poll()
                self._follow_release()
                if self._tick():
                    self._publish()
                    self._report_metrics()
                if time.monotonic() >= self._save_at_s:
                    self._save()
                self._metrics.loop.turned(self._waits_for)
            self._save()
        finally:
            self._clients.close()

    @property
    def _waits_for(self) -> str | None:
        """What is missing before every event is counted as it comes; None if nothing is."""
        if self._stream is None:
            return f"waiting for a live release on {self._topics.releases}"
        if self._lag is None:
            return "the ends of the topics are not known yet"
        limit = self._settings.ready_max_lag
        return f"{self._lag} events behind: more than ready_max_lag, {limit}" if self._lag > limit else None

    @property
    def _event_partitions(self) -> list[TopicPartition]:
        return [partition for partition in self._consumer.assignment() if partition.topic == self._topics.events]

    def _poll(self) -> None:
        """Count what has arrived. Raises `EventsLost` if a log no longer has the position of this process."""
        refuse_added_partitions(self._consumer, [self._topics.events])
        try:
            polled = self._consumer.poll(timeout_ms=POLL_WAIT_MS, max_records=kafka_clients.POLL_RECORDS)
        except (OffsetOutOfRangeError, LogTruncationError) as error:
            lost = ", ".join(f"{topic}, partition {partition}" for topic, partition in lost_positions(error))
            raise EventsLost(
                f"{lost} was trimmed, truncated or created again under the neighbours job: start it again, and it goes "
                "on with what the log has"
            ) from error
        for partition, records in polled.items():
            if partition.topic == self._topics.releases:
                self._on_notices(records)
            else:
                self._count(records)

    def _on_notices(self, records: Sequence[ConsumerRecord]) -> None:
        for record in records:
            notice = decode_notice(record, self._metrics)
            if notice is not None:
                self._notices.add(notice)

    def _count(self, records: Sequence[ConsumerRecord]) -> None:
        assert self._stream is not None, "events are paused until there is a rule to count them by"
        decoded, undecodable = decode_events(records, self._settings.max_message_bytes)  # the ranker's dead letters
        duplicates = self._stream.learn([row.event for row in decoded], [row.appended_ms for row in decoded])
        self._metrics.events.inc(len(decoded) - duplicates)
        self._metrics.ignored.labels("duplicate").inc(duplicates)
        self._metrics.ignored.labels("undecodable").inc(len(undecodable))
        self._metrics.loop.beat()

    def _follow_release(self) -> None:
        """Count by the rule of the live release: when another one becomes live, and by another rule, count anew."""
        notice = self._notices.live
        if notice is None:
            if self._waiting_log_due():
                log.info("waiting for a live release on %s", self._topics.releases)
            return
        if notice.release == self._live or not self._retry_due():
            return
        try:
            opened = release.open_announced(self._settings.releases_dir, notice)
            self._follow_rule(opened.manifest)
            self._follow_texts(opened)
        except release.ReleaseError as error:
            log.warning("the live release %s cannot be read: %s", notice.release, error)
            return
        self._live, self._retry_due = notice.release, Throttle(RETRY_INTERVAL_S)

    def _follow_texts(self, live: Release) -> None:
        """Take the release's neighbours by text, if its rule counts them: then all rows are looked at again."""
        assert self._stream is not None and self._rule is not None, "there is a rule to count by"
        if not self._rule.text_prior:
            return
        if TEXT_NEIGHBOURS not in live.manifest.files and not live.manifest.is_bootstrap:
            log.warning(
                "release %s has no file of neighbours by text: it was made by an earlier version. Until the next one, "
                "rows are of visits alone",
                live.manifest.id,
            )
        changed = ChangedItems(np.empty(0, np.int64), self._stream.read_texts(live))
        self._waiting.add(changed, time.monotonic())

    def _follow_rule(self, manifest: Manifest) -> None:
        rule = manifest.co_visits or CoVisitRule(min_users=self._settings.min_pair_users)
        width = self._settings.neighbours or manifest.policy.neighbours
        if width != self._width or rule != self._rule:  # another rule numbers items anew
            self._width, self._published = width, PublishedRows(width)
        if rule == self._rule:
            return
        log.info("co-visits are counted by the rule of release %s", manifest.id)
        self._rule, self._waiting = rule, WaitingRows()
        self._stream, positions = self._restore(rule)
        self._seek(positions)

    def _restore(self, rule: CoVisitRule) -> tuple[CoVisitStream, Sequence[SavedPosition]]:
        """The counts that were saved by this rule, and where they end; else none."""
        saved = saved_counts.read(self._path, rule, self._shard)
        if saved is not None:
            try:
                stream = CoVisitStream.from_arrays(rule, self._limits, saved.arrays, self._shard)
                log.info("%d items restored from %s", stream.items, self._path)
                return stream, saved.positions
            except (KeyError, ValueError) as error:
                log.warning("%s: %s. All events of the log are counted anew", self._path, error)
        return CoVisitStream(rule, self._limits, self._shard), []

    def _seek(self, positions: Sequence[SavedPosition]) -> None:
        """Go on from the saved positions, or from the beginning of a log that has none."""
        saved = {position.partition: position for position in positions}
        bounds = self._clients.log_reader.bounds(self._event_partitions)
        for partition, log_bounds in bounds.items():
            self._topic_ids[partition.partition] = log_bounds.topic_id
            position = saved.get(partition.partition)
            start = log_bounds.start if position is None else self._resume_at(partition, position, log_bounds)
            self._consumer.seek(partition, start)
        self._consumer.resume(*bounds)

    def _resume_at(self, partition: TopicPartition, saved: SavedPosition, bounds: LogBounds) -> int:
        held = HeldPosition(saved.next_offset, None, saved.topic_id)
        loss = find_loss(held, bounds)
        if loss is None:
            return saved.next_offset
        log.warning("%s, partition %d %s", *partition, describe(loss, held, bounds))
        self._metrics.missed.inc(loss.unranked)
        return loss.resume_at

    def _publish(self) -> None:
        """Publish the rows that changed, as far as one tick goes; if that fails, they wait for the next."""
        if self._stream is None:
            return
        now_s = time.monotonic()
        self._stream.watch_activity()
        changed = self._stream.counts.take_changed()
        is_behind = self._lag is None or self._lag > CATCHING_UP
        self._waiting.add(changed.in_turn if is_behind else changed, now_s)
        table = self._stream.rows(self._waiting.take(len(self._stream.item_ids), now_s), self._width)
        table = taken(table, self._published.differing(table))
        records = [
            OutboundRecord(self._topics.neighbours, key(row.item_id), encode(row))
            for row in neighbour_messages(table, self._stream.item_ids, time.time_ns() // 1_000_000)
        ]
        if not records:
            return
        try:
            self._clients.publisher.publish(records, {}, None)
        except TransactionAborted as error:
            log.warning("%d rows wait for the next try: %s", len(records), error)
            self._waiting.put_back(table.item, now_s)
            return
        self._published.remember(table)
        self._metrics.rows.inc(len(records))

    def _save(self) -> None:
        """Keep the counts, and how far they go."""
        started_s = time.monotonic()
        if self._stream is not None and self._rule is not None:
            positions = [
                SavedPosition(partition.partition, offset, self._topic_ids.get(partition.partition, ""))
                for partition in self._event_partitions
                if (offset := self._consumer.position(partition)) is not None
            ]
            saved = SavedCounts(positions, self._stream.to_arrays())
            size = saved_counts.write(self._path, self._rule, self._shard, saved)
            self._metrics.saved_at.set_to_current_time()
            self._metrics.saved_bytes.set(size)
        ended_s = time.monotonic()
        self._save_at_s = ended_s + max(SAVE_INTERVAL_S, (ended_s - started_s) / MAX_SAVING_SHARE)

    def _report_metrics(self) -> None:
        ends = kafka_clients.fetched_ends(self._consumer, self._event_partitions)
        lags = {partition: end - (self._consumer.position(partition) or 0) for partition, end in ends.items()}
        for partition, lag in lags.items():
            self._metrics.lag.labels(*partition).set(lag)
        self._lag = max(lags.values(), default=0) if len(lags) == len(self._event_partitions) else None
        self._metrics.waiting.set(len(self._waiting))
        self._metrics.waited.set(self._waiting.age_s(time.monotonic()))
        if self._stream is not None:
            self._metrics.items.set(self._stream.items)
            self._metrics.users.set(self._stream.users)
            self._metrics.unusual_users.set(self._stream.unusual_users)
