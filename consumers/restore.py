"""Restoring user states: a fold over `events`, without publishing, up to the offset the group has committed."""

from __future__ import annotations

import logging

from kafka import KafkaConsumer, TopicPartition

from anabranch import clients
from anabranch.metrics import RankerMetrics
from anabranch.ranking.core import Batch, fold
from anabranch.ranking.item_ids import ItemIds
from anabranch.ranking.state import UserStates
from anabranch.settings import Settings
from consumers.buried import Buried
from consumers.received import Received, decode

log = logging.getLogger(__name__)

CHUNK = 4096
"""Events folded before the group's consumer gets its turn, so that it is not taken for dead."""
LOG_EVERY = 100_000


class Restore:
    """Folds partitions chunk by chunk, beside the main loop's own work."""

    def __init__(self, settings: Settings, topic: str, states: UserStates, item_ids: ItemIds, metrics: RankerMetrics):
        self._settings = settings
        self._topic = topic
        self._states = states
        self._item_ids = item_ids
        self._metrics = metrics
        self._until: dict[int, int] = {}
        self._next: dict[int, int] = {}
        self._folded = 0
        self._consumer: KafkaConsumer | None = None
        self._buried = Buried(settings, topic)

    @property
    def pending(self) -> frozenset[int]:
        """Partitions not restored yet."""
        return frozenset(self._until)

    def begin(self, partition: int, until: int) -> None:
        """Restore a partition whose states are blank, from its beginning to the offset `until`."""
        self._until[partition] = until
        self._next[partition] = 0
        self._buried.outdate()
        self._assign()
        log.info("restoring partition %d: folding its events before offset %d", partition, until)

    def forget(self, partition: int) -> None:
        """The partition moved away."""
        if self._until.pop(partition, None) is not None:
            self._next.pop(partition)
            self._metrics.restore_remaining.remove(str(partition))
            self._assign()

    def step(self) -> dict[int, int]:
        """Fold one chunk; the partitions that this completed, and the offset from which each goes on."""
        if not self._until or self._consumer is None:
            return {}
        self._buried.catch_up()
        polled = self._consumer.poll(timeout_ms=20, max_records=CHUNK)
        for at, records in polled.items():
            until = self._until[at.partition]
            wanted = (one for one in records if one.offset < until and not self._buried.holds(at.partition, one.offset))
            received, _ = decode(wanted, self._settings.max_message_bytes)
            self._fold(received)
        for partition in self._next:
            self._next[partition] = self._consumer.position(TopicPartition(self._topic, partition)) or 0
        return self._complete()

    def close(self) -> None:
        """Close the reader, if there is one."""
        if self._consumer is not None:
            self._consumer.close()
            self._consumer = None

    def _fold(self, received: list[Received]) -> None:
        if not received:
            return
        events = [one.event for one in received]
        slots = self._states.slots([event.user_id for event in events], received[0].partition)
        fold(self._states, Batch.of(events, slots, self._item_ids, [one.appended_ms for one in received]))
        self._metrics.restored.inc(len(events))
        if self._folded // LOG_EVERY != (self._folded + len(events)) // LOG_EVERY:
            log.info("folded %d events so far, %d to go", self._folded + len(events), self._remaining())
        self._folded += len(events)

    def _remaining(self) -> int:
        return sum(max(0, until - self._next[partition]) for partition, until in self._until.items())

    def _complete(self) -> dict[int, int]:
        done = {partition: until for partition, until in self._until.items() if self._next[partition] >= until}
        for partition, until in self._until.items():
            self._metrics.restore_remaining.labels(str(partition)).set(max(0, until - self._next[partition]))
        for partition in done:
            del self._until[partition], self._next[partition]
            log.info("restored partition %d: %d users held", partition, len(self._states))
        if done:
            self._assign()
        return done

    def _assign(self) -> None:
        """Point the reader at the pending partitions; without any, close it."""
        if not self._until:
            self.close()
            return
        if self._consumer is None:
            self._consumer = clients.reader(self._settings, [self._topic])
        self._consumer.assign([TopicPartition(self._topic, partition) for partition in self._until])
        for partition, offset in self._next.items():
            at = TopicPartition(self._topic, partition)
            if offset:
                self._consumer.seek(at, offset)
            else:
                self._consumer.seek_to_beginning(at)
