"""Restoring a partition: its saved states, the events after them, and the slates those events led to."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from typing import NamedTuple

import numpy as np
from kafka import KafkaConsumer, TopicPartition
from kafka.consumer.fetcher import ConsumerRecord
from kafka.errors import RetriableError

from anabranch import messages
from anabranch.errors import BrokerUnavailable
from anabranch.kafka import clients
from anabranch.kafka.topics import Topics
from anabranch.messages import StateMarker
from anabranch.metrics import RankerMetrics
from anabranch.ranking.pipeline.rank import Batch, fold
from anabranch.ranking.pipeline.servable import LiveRelease
from anabranch.ranking.user_state.store import UserStates
from anabranch.ranking.vocabulary import ItemIds, ReleaseNumbers
from anabranch.settings import Settings
from consumers.ranker.changelog import StateLog
from consumers.ranker.checkpoint import Dirty, Progress
from consumers.ranker.dead_letter_offsets import Buried
from consumers.runtime import own_messages
from consumers.runtime.backoff import Backoff
from consumers.runtime.decoding import Received, decode
from consumers.runtime.throttle import Every

log = logging.getLogger(__name__)

CHUNK = 4096
"""Records taken before the main loop gets its turn."""
FETCH_BYTES = 8 << 20
"""A restore reads long stretches, and waits for each fetch."""
ENTERED = 512
"""Events folded at once: whose users were evicted are asked for one by one."""
IDLE_MS = 20
STUCK_AFTER_S = 60
NO_MARKER = StateMarker(offset=0, rankings_offset=0, epochs=[])
Turn = Generator[None, None, None]


class Restored(NamedTuple):
    """A partition that may be ranked."""

    partition: int
    progress: Progress


class Segment(NamedTuple):
    """Events from `start` up to `end` that a release ranked, or none did."""

    start: int
    end: int
    release: str | None


class Restore:
    """Restores partitions in turn, chunk by chunk, beside the main loop's own work."""

    def __init__(
        self,
        settings: Settings,
        states: UserStates,
        state_log: StateLog,
        item_ids: ItemIds,
        releases: ReleaseNumbers,
        metrics: RankerMetrics,
        committed: Callable[[int], int | None],
    ) -> None:
        self._settings = settings
        self._topics = Topics(settings)
        self._states = states
        self._state_log = state_log
        self._item_ids = item_ids
        self._releases = releases
        self._metrics = metrics
        self._ask_committed = committed
        self.committed: dict[int, int] = {}
        """The group's offset of each pending partition, once it is known."""
        self._live: LiveRelease | None = None
        self._waiting: dict[int, Generator[None, None, Progress]] = {}
        self._told = Every(5)
        self._buried = Buried(settings, self._topics.events)
        self._backoff = Backoff()

    def begin(self, partition: int) -> None:
        """Restore a partition whose states are blank."""
        self._metrics.restore_remaining.labels(str(partition)).set(1)
        self._waiting[partition] = self._restore(partition)
        self.committed[partition] = 0

    def forget(self, partition: int) -> None:
        """The partition moved away."""
        waiting = self._waiting.pop(partition, None)
        if waiting is not None:
            waiting.close()
            del self.committed[partition]
            self._metrics.restore_remaining.remove(str(partition))

    @property
    def is_under_way(self) -> bool:
        """Whether any partition is yet to be restored."""
        return bool(self._waiting)

    def step(self, live: LiveRelease | None) -> Restored | None:
        """Do a chunk of work on the next partition in turn; the partition, if this completed it."""
        self._live = live
        if not self._waiting or not self._backoff.over:
            return None
        partition = next(iter(self._waiting))
        work = self._waiting.pop(partition)
        try:
            next(work)
            self._waiting[partition] = work
            return None
        except (RetriableError, BrokerUnavailable) as error:
            log.warning("restoring partition %d begins again: %s", partition, error)
            self._backoff.failed()
            self._states.drop_partition(partition)
            self._waiting[partition] = self._restore(partition)
            return None
        except StopIteration as done:
            self._backoff.succeeded()
            del self.committed[partition]
            self._metrics.restore_remaining.labels(str(partition)).set(0)
            return Restored(partition, done.value)

    def close(self) -> None:
        """Give up what is pending."""
        for partition in list(self._waiting):
            self.forget(partition)

    def _restore(self, partition: int) -> Generator[None, None, Progress]:
        """Yields between chunks. The order is what makes it exact.

        First the group's offset, which is final: one that an open transaction may yet move is not told. Then the ends
        of the logs of states and rankings as of after that, counting what no reader of committed messages sees yet: up
        to there is read, so that all that the offset's own transaction wrote is.
        """
        began = time.monotonic()
        while (until := self._ask_committed(partition)) is None:
            yield
        self.committed[partition] = until
        state_at, events_at, rankings_at = (
            TopicPartition(topic, partition)
            for topic in (self._topics.user_state, self._topics.events, self._topics.rankings)
        )
        ends = clients.high_watermarks(self._settings, [state_at, rankings_at])
        with closing(clients.reader(self._settings, [], max_partition_fetch_bytes=FETCH_BYTES)) as consumer:
            marker = yield from self._load_states(consumer, state_at, ends[state_at], until)
            dirty: dict[int, Dirty] = {}
            lacking = segments(marker, until)
            if lacking:
                yield from self._buried.catch_up()
            for segment in lacking:
                yield from self._fold(consumer, events_at, segment, dirty)
            yield from self._show_slates(consumer, rankings_at, marker.rankings_offset, ends[rankings_at])
        log.info(
            "restored partition %d in %.2f s: %d users held, events %d to %d folded",
            partition,
            time.monotonic() - began,
            len(self._states),
            marker.offset,
            until,
        )
        return Progress(marker, next=until, rankings_end=ends[rankings_at], dirty=dirty, marked=time.monotonic())

    def _load_states(
        self, consumer: KafkaConsumer, at: TopicPartition, end: int, until: int
    ) -> Generator[None, None, StateMarker]:
        """Saved states up to `end`, in memory; the newest marker.

        States that hold events which the group has not ranked, for its offsets were set back, cannot be wound back:
        they are not used, and what the log of events still has is folded instead.
        The release that ranked last may be one that this process is only readying. The states it made are of use to no
        other, so they are read once more when it is there.
        """
        while True:
            while self._live is None:
                yield
            marker, holds = NO_MARKER, 0
            for records in self._chunks(consumer, at, 0, end):
                entered = self._state_log.enter(at.partition, records)
                marker, holds = entered.marker or marker, max(holds, entered.holds)
                self._state_log.make_room()
                yield
            if max(holds, marker.offset) > until:
                log.warning("partition %d's states go beyond the group's offset %d: not used", at.partition, until)
                self._states.drop_partition(at.partition)
                return NO_MARKER
            ranked_by = marker.epochs[-1].release if marker.epochs else None
            if ranked_by == self._live.manifest.id or ranked_by != self._announced():
                return marker
            log.info("partition %d was last ranked by release %s: waiting for it", at.partition, ranked_by)
            yield from self._await(str(ranked_by))
            self._states.drop_partition(at.partition)

    def _await(self, release: str) -> Turn:
        """Until the release is live here, or is not to be any more."""
        look_again = Every(2)
        while self._live is not None and self._live.manifest.id != release:
            if look_again() and self._announced() != release:
                return
            yield

    def _announced(self) -> str | None:
        """The release that was announced live last."""
        live = None
        for record in clients.read_to_end(self._settings, [self._topics.releases]):
            read = own_messages.read(messages.releases, bytes.decode, record, self._metrics)
            if read is not None and read[1] is not None and read[1].status == "live":
                live = read[1].release
        return live

    def _fold(self, consumer: KafkaConsumer, at: TopicPartition, segment: Segment, dirty: dict[int, Dirty]) -> Turn:
        """Enter events without publishing; those that the live release ranked move the encoder as they did then.

        A state that another release moved is encoded by the live one at its user's next event, as it would have been.
        """
        for records in self._chunks(consumer, at, segment.start, segment.end):
            wanted = (record for record in records if not self._buried.holds(at.partition, record.offset))
            received, _ = decode(wanted, self._settings.max_message_bytes)
            live = self._live if self._live is not None and segment.release == self._live.manifest.id else None
            for start in range(0, len(received), ENTERED):
                self._enter(at.partition, received[start : start + ENTERED], live, dirty)
                yield
            yield

    def _enter(
        self, partition: int, received: Sequence[Received], live: LiveRelease | None, dirty: dict[int, Dirty]
    ) -> None:
        user_ids = [one.event.user_id for one in received]
        self._state_log.recall(user_ids, partition)
        slots = self._states.slots(user_ids, partition)
        offsets = np.array([one.offset for one in received], np.int64)
        fresh = offsets >= self._states.columns.next_offset[slots]  # the others are in their users' saved states
        slots, offsets = slots[fresh], offsets[fresh]
        if len(slots) == 0:
            return
        received = [one for one, new in zip(received, fresh.tolist(), strict=True) if new]
        events = [one.event for one in received]
        fold(self._states, Batch.of(events, slots, self._item_ids, [one.appended_ms for one in received]), live)
        self._states.columns.next_offset[slots] = offsets + 1
        self._states.columns.dirty[slots] = True
        self._states.touch(slots)
        now = time.monotonic()
        for slot, one in zip(slots.tolist(), received, strict=True):
            dirty.setdefault(slot, Dirty(one.offset, now, one.event.user_id))
        self._metrics.restored.inc(len(received))

    def _show_slates(self, consumer: KafkaConsumer, at: TopicPartition, start: int, end: int) -> Turn:
        """The slates of the folded events, as they were published."""
        for records in self._chunks(consumer, at, start, end):
            for record in records:
                read = own_messages.read(messages.rankings, bytes.decode, record, self._metrics)
                if read is not None and read[1] is not None:
                    self._show(at.partition, read[1])
            yield

    def _show(self, partition: int, ranking: messages.Ranking) -> None:
        slot = self._states.slot_of(ranking.user_id, partition)
        if slot is not None:  # of one who was evicted, the saved state has the slate
            slate = self._item_ids.rows(item.item_id for item in ranking.slate)
            self._states.show(slot, slate, self._releases.number(ranking.release))

    def _chunks(
        self, consumer: KafkaConsumer, at: TopicPartition, start: int, end: int
    ) -> Iterator[list[ConsumerRecord]]:
        """The records from `start` up to `end`; an empty list while none comes, so that other work gets its turn."""
        consumer.assign([at])
        consumer.seek(at, start)
        moved = time.monotonic()
        while (position := consumer.position(at) or 0) < end:
            self._metrics.restore_remaining.labels(str(at.partition)).set(end - position)
            if self._told():
                log.info("restoring partition %d: %s, %d to go", at.partition, at.topic, end - position)
            records = consumer.poll(timeout_ms=IDLE_MS, max_records=CHUNK).get(at, [])
            yield [record for record in records if record.offset < end]
            if records:
                moved = time.monotonic()
            elif time.monotonic() - moved > STUCK_AFTER_S:
                raise BrokerUnavailable(f"{at.topic}, partition {at.partition} does not go on to offset {end}")


def segments(marker: StateMarker, until: int) -> list[Segment]:
    """The events that the saved states may lack, by the release that ranked them."""
    bounds = [(marker.offset, None), *((max(epoch.offset, marker.offset), epoch.release) for epoch in marker.epochs)]
    ends = [start for start, _ in bounds[1:]] + [until]
    return [
        Segment(start, min(end, until), release)
        for (start, release), end in zip(bounds, ends, strict=True)
        if start < min(end, until)
    ]
