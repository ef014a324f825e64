"""kafka-python clients made from `Settings`, and reading a topic to its current end."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from functools import partial
from typing import Any
from uuid import UUID

from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import KafkaAdminClient, OffsetSpec
from kafka.consumer.fetcher import ConsumerRecord
from kafka.errors import IllegalStateError, KafkaError, RetriableError

from anabranch.errors import BrokerUnavailable
from anabranch.kafka.connections import is_refusal, net_client, refused, sasl_password, tls_context
from anabranch.kafka.log_bounds import LogBounds
from anabranch.kafka.partitions import REFRESH_MS
from anabranch.kafka.poll_bounds import bound_polls
from anabranch.kafka.record_batches import read_every_record
from anabranch.kafka.topics import largest_record_bytes, require
from anabranch.settings import Settings

POLL_RECORDS = 5_000
"""Most records of one poll."""
IDLE_WAIT_MS = 500
"""How long a process without work waits for a record: at the broker, which answers a waiting fetch as soon as there is
one, and in its own poll. Each of these waits costs about 1 ms of CPU time when it ends, so short ones add up."""
READ_WAIT_MS = 100
"""How long a fetch of other consumers waits at the broker: their next request on its connection waits behind it."""
BOOTSTRAP_TIMEOUT_MS = 15_000
RETRY_INTERVAL_S = 0.5
BATCH_RATIO = 32
"""A batch may decompress to this many of the largest records: 34 MiB by default. A batch of events has at most
`max_message_bytes` compressed, and JSON rarely compresses to less than a twentieth. A reader holds one decompressed
batch of each partition at most."""
NO_TOPIC_ID = UUID(int=0)
STALLED_AFTER_S = 60
"""A read to the end fails after this long without a record."""


def producer(settings: Settings, **configs: Any) -> KafkaProducer:
    """An idempotent producer. Raises `BrokerUnavailable`."""
    compression = None if settings.compression == "none" else settings.compression
    with _translated(settings):
        return KafkaProducer(
            **_connection(settings, "producer"),
            **{
                "compression_type": compression,
                "allow_auto_create_topics": False,
                "linger_ms": 5,
                "batch_size": min(256 * 1024, settings.max_message_bytes),
                "max_request_size": largest_record_bytes(settings),
                "metrics_enabled": False,
            }
            | configs,
        )


def transactional_producer(settings: Settings, transactional_id: str) -> KafkaProducer:
    """An initialised transactional producer. It fences any producer with the same id and ends its transaction.

    The first request of a transaction often fails with CONCURRENT_TRANSACTIONS, because the broker still writes the
    markers of the previous one. With the default back-off of 100 ms, that alone would be the 99th percentile of
    latency. Records linger until they are flushed, else each would be a request. Raises `BrokerUnavailable`.
    """
    created = producer(
        settings,
        transactional_id=transactional_id,
        transaction_timeout_ms=settings.transaction_timeout_ms,
        max_block_ms=settings.transaction_timeout_ms,
        retry_backoff_ms=2,
        linger_ms=1000,
    )
    try:
        with _translated(settings):
            created.init_transactions()
    except BrokerUnavailable:
        created.close(timeout=0)
        raise
    return created


def group_consumer(settings: Settings, group: str, **configs: Any) -> KafkaConsumer:
    """A consumer of committed records in a group, without automatic commits. Raises `BrokerUnavailable`."""
    return _consumer(
        settings,
        **{
            "group_id": group,
            "metadata_max_age_ms": REFRESH_MS,
            "session_timeout_ms": settings.session_timeout_ms,
            # How long a rebalance waits for a busy member.
            "max_poll_interval_ms": max(60_000, 2 * settings.session_timeout_ms),
            # Members learn of a rebalance by their heartbeats, and it waits until all have.
            "heartbeat_interval_ms": min(settings.session_timeout_ms // 10, 300),
        }
        | configs,
    )


def reader(settings: Settings, topics: Iterable[str], **configs: Any) -> KafkaConsumer:
    """A consumer of committed records without a group, at the beginning of every partition of the topics."""
    consumer = _consumer(settings, group_id=None, **configs)
    if assign(consumer, topics):
        consumer.seek_to_beginning()
    return consumer


def follower(settings: Settings, topics: Iterable[str]) -> KafkaConsumer:
    """A `reader` that goes on at the end of the topics, where it waits for records without using the CPU.

    Its `poll` raises `OffsetOutOfRangeError` or `LogTruncationError` if a log no longer has the position: what it has
    read before may be gone.
    """
    return reader(
        settings,
        topics,
        fetch_max_wait_ms=IDLE_WAIT_MS,
        auto_offset_reset="none",
        metadata_max_age_ms=REFRESH_MS,
    )


def assign(consumer: KafkaConsumer, topics: Iterable[str]) -> list[TopicPartition]:
    """Assign every partition of the topics to the consumer. Raises `BrokerUnavailable` for an unknown topic."""
    partitions = []
    for topic in topics:
        numbers = consumer.partitions_for_topic(topic)
        if not numbers:
            raise BrokerUnavailable(f"the broker has no topic {topic}: create it with `anabranch topics provision`")
        partitions += [TopicPartition(topic, number) for number in sorted(numbers)]
    if partitions:
        consumer.assign(partitions)
    return partitions


def read_to_end(
    settings: Settings, topics: Iterable[str], partitions: Iterable[int] | None = None, **configs: Any
) -> Iterator[ConsumerRecord]:
    """Every committed record of the topics, or of these partitions, up to the end at the time of the call."""
    consumer = reader(settings, topics, **configs)
    try:
        if partitions is not None:
            numbers = set(partitions)
            consumer.assign([partition for partition in consumer.assignment() if partition.partition in numbers])
            consumer.seek_to_beginning()
        yield from drain(consumer)
    finally:
        consumer.close()


def read_from(
    settings: Settings, topic: str, start: Mapping[int, int], **configs: Any
) -> Generator[ConsumerRecord, None, None]:
    """Every committed record of a topic from `start` (partition → offset, default 0) to its end when called."""
    consumer = reader(settings, [topic], **configs)
    try:
        for partition, offset in start.items():
            consumer.seek(TopicPartition(topic, partition), offset)
        yield from drain(consumer)
    finally:
        consumer.close()


def record_at(settings: Settings, topic: str, partition: int, offset: int) -> ConsumerRecord | None:
    """The committed record at an offset; None if it does not exist, or was removed."""
    consumer = _consumer(settings, group_id=None)
    try:
        assigned = TopicPartition(topic, partition)
        if partition not in (consumer.partitions_for_topic(topic) or ()):
            return None
        consumer.assign([assigned])
        if not consumer.beginning_offsets([assigned])[assigned] <= offset < consumer.end_offsets([assigned])[assigned]:
            return None
        consumer.seek(assigned, offset)
        record = next(drain(consumer), None)
        return record if record is not None and record.offset == offset else None
    finally:
        consumer.close()


def drain(consumer: KafkaConsumer) -> Iterator[ConsumerRecord]:
    """Records from the consumer's positions to the ends of its partitions at the time of the call.

    Raises `BrokerUnavailable` after `STALLED_AFTER_S` without a record.
    """
    ends = consumer.end_offsets(list(consumer.assignment()))
    progress_at_s = time.monotonic()
    while not reached(consumer, ends):
        polled = consumer.poll(timeout_ms=200, max_records=POLL_RECORDS)
        for partition, records in polled.items():
            yield from (record for record in records if record.offset < ends[partition])
        if polled:
            progress_at_s = time.monotonic()
        elif time.monotonic() - progress_at_s > STALLED_AFTER_S:
            raise BrokerUnavailable(f"no record arrived for {STALLED_AFTER_S} s, before the end of {sorted(ends)}")


def reached(consumer: KafkaConsumer, ends: dict[TopicPartition, int]) -> bool:
    """Whether the consumer's positions are at the ends or beyond. An unknown position counts as 0."""
    return all((consumer.position(partition) or 0) >= end for partition, end in ends.items() if end > 0)


def fetched_ends(consumer: KafkaConsumer, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
    """The ends of partitions as the newest fetch saw them; a partition that was not fetched yet is left out.

    They include the records of open transactions. To ask the broker would take as long as a waiting fetch, up to
    `fetch_max_wait_ms`.
    """
    ends: dict[TopicPartition, int] = {}
    for partition in partitions:
        with suppress(IllegalStateError):  # the group has taken it away
            end = consumer.highwater(partition)
            if end is not None:
                ends[partition] = end
    return ends


def log_bounds(settings: Settings, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, LogBounds]:
    """The ends of partitions, with the records of open transactions, and the ids of their topics."""
    partitions = list(partitions)
    with closing(admin(settings)) as client:
        starts = client.list_partition_offsets(dict.fromkeys(partitions, OffsetSpec.EARLIEST))
        ends = client.list_partition_offsets(dict.fromkeys(partitions, OffsetSpec.LATEST))
        topics = client.describe_topics(sorted({partition.topic for partition in partitions}))
    ids = {topic["name"]: topic_id_of(topic) for topic in topics}
    return {
        partition: LogBounds(starts[partition].offset, ends[partition].offset, ids.get(partition.topic, ""))
        for partition in partitions
    }


def topic_id_of(description: Mapping[str, Any]) -> str:
    """The id of a described topic (KIP-516); empty for brokers before 2.8, which give topics none."""
    topic_id = UUID(str(description.get("topic_id") or NO_TOPIC_ID))
    return str(topic_id) if topic_id != NO_TOPIC_ID else ""


def ranges_since(settings: Settings, topic: str, timestamp_ms: int) -> dict[TopicPartition, range]:
    """By partition, the offsets from the first record with this timestamp or a later one to the end of the log.

    The ends include the records of open transactions. A partition without such a record is left out.
    """
    with closing(admin(settings)) as client:
        [description] = client.describe_topics([topic])
        partitions = [TopicPartition(topic, part["partition_index"]) for part in description["partitions"]]
        starts = client.list_partition_offsets(dict.fromkeys(partitions, timestamp_ms))
        ends = client.list_partition_offsets(dict.fromkeys(partitions, OffsetSpec.LATEST))
    return {
        partition: range(start.offset, ends[partition].offset)
        for partition, start in starts.items()
        if start.offset >= 0
    }


def admin(settings: Settings) -> KafkaAdminClient:
    """An admin client. Raises `BrokerUnavailable`."""
    with _translated(settings):
        return KafkaAdminClient(**_connection(settings, "admin"))


def require_topics(settings: Settings, more: bool = False) -> None:
    """Raises `TopicsDiffer` unless every topic exists with the right number of partitions, or `more` for users' topics.

    Retries for `BOOTSTRAP_TIMEOUT_MS`: with one broker down, a cluster needs a while to answer.
    """
    deadline = time.monotonic() + BOOTSTRAP_TIMEOUT_MS / 1000
    while True:
        try:
            with closing(admin(settings)) as client:
                return require(client, settings, configs=False, more=more)
        except RetriableError:
            if time.monotonic() > deadline:
                raise
            time.sleep(RETRY_INTERVAL_S)


def _consumer(settings: Settings, **configs: Any) -> KafkaConsumer:
    bound_polls()
    largest_record = largest_record_bytes(settings)
    with _translated(settings):
        consumer = KafkaConsumer(
            **_connection(settings, "consumer"),
            **{
                "enable_auto_commit": False,
                "auto_offset_reset": "earliest",
                "isolation_level": "read_committed",
                "allow_auto_create_topics": False,
                "fetch_max_wait_ms": READ_WAIT_MS,
                "max_partition_fetch_bytes": largest_record,
                "metrics_enabled": False,
            }
            | configs,
        )
    read_every_record(consumer, BATCH_RATIO * largest_record)
    return consumer


def _connection(settings: Settings, role: str) -> dict[str, Any]:
    """The configuration that all clients share."""
    password = sasl_password(settings)
    return {
        "bootstrap_servers": settings.bootstrap_servers.split(","),
        "client_id": f"{settings.client_id}-{role}",
        "security_protocol": settings.security_protocol,
        "sasl_mechanism": settings.sasl_mechanism,
        "sasl_plain_username": settings.sasl_username,
        "sasl_plain_password": password,
        "ssl_context": tls_context(settings),
        "kafka_client": partial(net_client, settings),
        "bootstrap_timeout_ms": BOOTSTRAP_TIMEOUT_MS,
    }


@contextmanager
def _translated(settings: Settings) -> Iterator[None]:
    """Raise kafka-python's errors as ours, with the address and the remedy."""
    try:
        yield
    except KafkaError as error:
        if is_refusal(error):
            raise refused(settings, error) from error
        raise BrokerUnavailable(
            f"no broker at {settings.bootstrap_servers} ({settings.security_protocol}): {error}. "
            "Check that it runs, that bootstrap_servers (ANABRANCH_BOOTSTRAP_SERVERS) is its address, and that "
            "security_protocol is the one of its listener"
        ) from error
