"""Kafka in memory, for one thread: logs, a consumer group, transactions, and failures on demand."""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from enum import Enum
from typing import Any

from kafka import TopicPartition
from kafka.consumer.fetcher import ConsumerRecord
from kafka.errors import CommitFailedError, OffsetOutOfRangeError, RetriableError

from anabranch.kafka.clients import IDLE_WAIT_MS
from anabranch.kafka.log_bounds import LogBounds
from anabranch.kafka.records import Offsets, OutboundRecord
from consumers.runtime.assignment import Rebalance
from consumers.runtime.clock import Clock
from consumers.runtime.group_consumer import NO_OFFSET
from consumers.runtime.publishers import TransactionAborted

APPENDED_MS = 1_700_000_000_000
LOG_APPEND_TIME = 1


class ManualClock:
    """Time stands still until a test advances it."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def advance(self, seconds: float) -> None:
        self.seconds += seconds

    def clock(self) -> Clock:
        return Clock(monotonic=lambda: self.seconds, wall=lambda: APPENDED_MS / 1000 + self.seconds)


class InMemoryKafka:
    """The logs of all topics, and the offsets of one consumer group on `events`."""

    def __init__(self) -> None:
        self.logs: dict[TopicPartition, list[ConsumerRecord]] = defaultdict(list)
        self.committed: dict[int, int] = {}
        self.generation = 1
        self._starts: dict[TopicPartition, int] = defaultdict(int)
        self._creations: dict[str, int] = defaultdict(int)
        self.now_ms = APPENDED_MS
        """The broker's clock, which times appended records."""
        self.before_publish: Callable[[Sequence[OutboundRecord]], None] = lambda records: None
        """Called by every producer with what it is about to publish, and with nothing before offsets alone."""

    def append(self, record: OutboundRecord) -> int:
        """Append a record to its partition, 0 where none is named; its offset."""
        source = TopicPartition(record.topic, record.partition or 0)
        log = self.logs[source]
        offset, headers = self.end(*source), list(record.headers or [])
        position = (record.topic, source.partition, 0, offset, self.now_ms, LOG_APPEND_TIME)
        log.append(ConsumerRecord(*position, record.key, record.value, headers, None, 0, 0, 0))
        return offset

    def records(self, topic: str) -> list[ConsumerRecord]:
        """Every record of a topic, partition by partition."""
        sources = sorted(source for source in self.logs if source.topic == topic)
        return [record for source in sources for record in self.logs[source]]

    def end(self, topic: str, partition: int) -> int:
        source = TopicPartition(topic, partition)
        return self._starts[source] + len(self.logs[source])

    def bounds(self, source: TopicPartition) -> LogBounds:
        return LogBounds(self._starts[source], self.end(*source), f"{source.topic} {self._creations[source.topic]}")

    def trim(self, topic: str, partition: int, start: int) -> None:
        """Delete the records before an offset, as retention does."""
        source = TopicPartition(topic, partition)
        self.logs[source] = self.read(source, start, self.end(*source))
        self._starts[source] = start

    def truncate(self, topic: str, partition: int, end: int) -> None:
        """Lose the records from an offset on, as a broker does that lost its power."""
        source = TopicPartition(topic, partition)
        self.logs[source] = self.read(source, self._starts[source], end)

    def recreate(self, topic: str) -> None:
        """Delete the topic and create it again. The group's offsets go with it."""
        for source in list(self.logs):
            if source.topic == topic:
                self.logs[source], self._starts[source] = [], 0
        self._creations[topic] += 1

    def read(self, source: TopicPartition, start: int, end: int) -> list[ConsumerRecord]:
        """The records from an offset up to another. Raises `OffsetOutOfRangeError` if the log cannot have them."""
        log_start = self._starts[source]
        if not log_start <= start <= self.end(*source):
            raise OffsetOutOfRangeError({source: start})
        return self.logs[source][start - log_start : end - log_start]

    def log_reader(self) -> InMemoryLogReader:
        return InMemoryLogReader(self)


class InMemoryLogReader:
    """A `LogReader` and a `PartitionReader` at once. `fail_next` makes that many reads fail as a lost broker does."""

    def __init__(self, kafka: InMemoryKafka, chunk: int = 3) -> None:
        self._kafka = kafka
        self._chunk = chunk
        self.fail_next = 0
        self.closed = 0
        self.records_read = Counter[str]()
        """By topic, how many records were read in ranges."""

    def partition_reader(self) -> InMemoryLogReader:
        return self

    def read(self, partition: TopicPartition, start: int, end: int) -> Iterator[list[ConsumerRecord]]:
        for first in range(start, end, self._chunk):
            self._fail()
            records = self._kafka.read(partition, first, min(first + self._chunk, end))
            self.records_read[partition.topic] += len(records)
            yield records

    def first_record_from(self, partition: TopicPartition, offset: int) -> ConsumerRecord | None:
        self._fail()
        return next((record for record in self._kafka.logs[partition] if record.offset >= offset), None)

    def bounds(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, LogBounds]:
        return {partition: self._kafka.bounds(partition) for partition in partitions}

    def ranges_since(self, topic: str, timestamp_ms: int) -> dict[TopicPartition, range]:
        logs = {source: log for source, log in self._kafka.logs.items() if source.topic == topic}
        starts = {
            source: next((record.offset for record in log if record.timestamp >= timestamp_ms), None)
            for source, log in logs.items()
        }
        return {source: range(start, self._kafka.end(*source)) for source, start in starts.items() if start is not None}

    def read_to_end(self, topics: Iterable[str]) -> Iterator[ConsumerRecord]:
        return iter([record for topic in topics for record in self._kafka.records(topic)])

    def read_from(self, topic: str, start: Mapping[int, int]) -> Iterator[ConsumerRecord]:
        records = self._kafka.records(topic)
        return iter([record for record in records if record.offset >= start.get(record.partition, 0)])

    def close(self) -> None:
        self.closed += 1

    def _fail(self) -> None:
        if self.fail_next:
            self.fail_next -= 1
            raise RetriableError("the broker is away")


class InMemoryGroupConsumer:
    """A `GroupConsumer`: a test assigns and revokes, as the group's coordinator would."""

    def __init__(self, kafka: InMemoryKafka, topic: str) -> None:
        self._kafka = kafka
        self._topic = topic
        self._rebalances: deque[Rebalance] = deque()
        self._positions: dict[int, int] = {}
        self._generation = kafka.generation
        self.partitions = 2
        self.assigned: set[int] = set()
        self.withhold_offsets = 0
        """Answers to `committed_offset` that stay None, as while a transaction of the last owner is open."""
        self.limits: list[int] = []
        """How many records each poll was allowed."""
        self.waits_ms: list[int] = []
        """How long each poll would have waited for a first record."""
        self.closed = False

    def assign(self, *partitions: int) -> None:
        """The group gives these partitions to this member."""
        self._rebalance(Rebalance(frozenset(), frozenset(partitions)))

    def revoke(self, *partitions: int) -> None:
        """The group takes them away."""
        self._rebalance(Rebalance(frozenset(partitions), frozenset()))

    def reassign(self, *partitions: int) -> None:
        """The group took them away and gave them back before the ranker looked."""
        self._rebalance(Rebalance(frozenset(partitions), frozenset(partitions)))

    def be_removed(self) -> None:
        """The group goes on without this member, which does not know it yet: a zombie."""
        self._kafka.generation += 1

    def rewind(self, partition: int, offset: int) -> None:
        """The client fetches records again."""
        self._positions[partition] = offset

    @property
    def group_metadata(self) -> Any:
        return self._generation

    @property
    def is_stable(self) -> bool:
        return not self._rebalances

    def poll_batch(
        self,
        running: Collection[int],
        limit: int,
        wait_for_pending: Callable[[float], object],
        timeout_ms: int = IDLE_WAIT_MS,
    ) -> list[ConsumerRecord]:
        self.limits.append(limit)
        self.waits_ms.append(timeout_ms)
        wait_for_pending(0.0)
        if not self.is_stable:
            return []
        batch: list[ConsumerRecord] = []
        for partition in sorted(running):
            position = self._positions[partition]
            source = TopicPartition(self._topic, partition)
            try:
                records = self._kafka.read(source, position, position + limit - len(batch))
            except OffsetOutOfRangeError:
                self._rebalances.append(Rebalance(*[frozenset({partition})] * 3))
                continue
            self._positions[partition] = position + len(records)
            batch += records
        return batch

    def take_rebalance(self) -> Rebalance | None:
        if not self._rebalances:
            return None
        rebalance = self._rebalances.popleft()
        self._generation = self._kafka.generation
        return rebalance

    def is_at_end(self, partitions: Iterable[int]) -> bool:
        return all(self._positions[partition] == self._kafka.end(self._topic, partition) for partition in partitions)

    def committed_offset(self, partition: int, timeout_ms: int = 0) -> int | None:
        if self.withhold_offsets:
            self.withhold_offsets -= 1
            return None
        return self._kafka.committed.get(partition, NO_OFFSET)

    def begin(self, partitions: Iterable[int]) -> None:
        self._kafka.committed |= dict.fromkeys(partitions, 0)

    def remember(self, partition: int, offset: int) -> None:
        self._kafka.committed[partition] = offset

    def resume(self, partition: int, offset: int) -> bool:
        if partition not in self.assigned:
            return False
        self._positions[partition] = offset
        return True

    def pause(self, partitions: Iterable[int]) -> None:
        for partition in partitions:
            self._positions[partition] = self._kafka.end(self._topic, partition)

    def end_offsets(self, partitions: Iterable[int]) -> dict[int, int]:
        return {partition: self._kafka.end(self._topic, partition) for partition in partitions}

    def commit(self, offsets: Offsets) -> None:
        self._kafka.before_publish([])
        if self._generation != self._kafka.generation:
            raise CommitFailedError("the group has moved on")
        self._kafka.committed |= {source.partition: offset for source, offset in offsets.items()}

    def close(self) -> None:
        self.closed = True

    def _rebalance(self, rebalance: Rebalance) -> None:
        self._kafka.generation += 1
        self.assigned = (self.assigned - rebalance.revoked) | rebalance.assigned
        self._rebalances.append(rebalance)


class Outcome(Enum):
    """How a transaction ends."""

    COMMITTED = "committed"
    ABORTED = "nothing of it is committed"
    ANSWER_LOST = "committed, but this process does not learn it"
    OFFSETS_UNKNOWN = "committed by the offsets, but the offset of no record is known"


@dataclass(frozen=True)
class Publication:
    """One call of `publish`."""

    records: Sequence[OutboundRecord]
    offsets: Offsets
    outcome: Outcome | BaseException


class InMemoryPublisher:
    """A `Publisher` whose next transactions end as `script` says, and all others with a commit.

    As a broker does, it refuses a transaction of a generation that the group has left (KIP-447).
    """

    def __init__(self, kafka: InMemoryKafka) -> None:
        self._kafka = kafka
        self.script: deque[Outcome | BaseException] = deque()
        self.publications: list[Publication] = []
        self.before_commit: Callable[[], None] = lambda: None
        """Called once in the middle of the next transaction."""
        self.closed = False

    def publish(self, records: Sequence[OutboundRecord], offsets: Offsets, group_metadata: Any) -> list[int]:
        before_commit, self.before_commit = self.before_commit, lambda: None
        before_commit()
        self._kafka.before_publish(records)
        outcome = self.script.popleft() if self.script else Outcome.COMMITTED
        if group_metadata != self._kafka.generation:
            outcome = Outcome.ABORTED
        self.publications.append(Publication(records, offsets, outcome))
        if isinstance(outcome, BaseException):
            raise outcome
        if outcome is Outcome.ABORTED:
            raise TransactionAborted("the transaction was aborted")
        record_offsets = [self._kafka.append(record) for record in records]
        self._kafka.committed |= {source.partition: offset for source, offset in offsets.items()}
        if outcome is Outcome.ANSWER_LOST:
            raise TransactionAborted("no answer")
        return [-1] * len(records) if outcome is Outcome.OFFSETS_UNKNOWN else record_offsets

    def close(self) -> None:
        self.closed = True


class LazyExecutor(Executor):
    """Runs a call when its result is asked for: until then the transaction is in flight."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        return _LazyFuture(lambda: fn(*args, **kwargs))


class _LazyFuture(Future[Any]):
    def __init__(self, call: Callable[[], Any]) -> None:
        super().__init__()
        self._call = call

    def result(self, timeout: float | None = None) -> Any:
        if not self.done():
            try:
                self.set_result(self._call())
            except BaseException as error:
                self.set_exception(error)
        return super().result(timeout)
