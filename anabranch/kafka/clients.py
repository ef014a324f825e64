"""kafka-python clients made from `Settings`, and reading a topic to its current end."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from typing import Any

from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import KafkaAdminClient, OffsetSpec
from kafka.consumer.fetcher import ConsumerRecord
from kafka.errors import KafkaError, RetriableError

from anabranch.errors import BrokerUnavailable
from anabranch.kafka.connections import is_refusal, net_client, refused, tls_context
from anabranch.kafka.headers import read_any_name
from anabranch.kafka.topics import ENVELOPE_BYTES, require
from anabranch.settings import Settings

CHUNK = 5_000
"""Records taken from a reading consumer at once."""
BOOTSTRAP_TIMEOUT_MS = 15_000
MAX_FRAME_BYTES = 2**31 - 1
"""The protocol's own bound. kafka-python's default of 100 MB is only logged when a frame exceeds it, and never read."""
RETRY_S = 0.5
STUCK_AFTER_S = 60
"""How long a read to the end may stand still before it is given up."""


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
                "max_request_size": settings.max_message_bytes + ENVELOPE_BYTES,
                "metrics_enabled": False,
            }
            | configs,
        )


def transactional_producer(settings: Settings, transactional_id: str) -> KafkaProducer:
    """A producer of transactions, initialised: a forerunner with the same id is fenced and its transaction ended.

    The first request of a transaction is often told CONCURRENT_TRANSACTIONS, for the one before is still being
    marked; with the default back-off of 100 ms that alone is the 99th percentile of latency. Messages linger until they
    are flushed: sent as they come, they would be as many small requests.
    """
    made = producer(
        settings,
        transactional_id=transactional_id,
        transaction_timeout_ms=settings.transaction_timeout_ms,
        max_block_ms=settings.transaction_timeout_ms,
        retry_backoff_ms=2,
        linger_ms=1000,
    )
    try:
        with _translated(settings):
            made.init_transactions()
    except BrokerUnavailable:
        made.close(timeout=0)
        raise
    return made


def group_consumer(settings: Settings, group: str, **configs: Any) -> KafkaConsumer:
    """A consumer of committed messages in a group, which commits only when told to. Raises `BrokerUnavailable`."""
    return _consumer(
        settings,
        **{
            "group_id": group,
            "session_timeout_ms": settings.session_timeout_ms,
            # How long a rebalance waits for a member that is busy.
            "max_poll_interval_ms": max(60_000, 2 * settings.session_timeout_ms),
            # A member hears of a rebalance by its heartbeat, and until all have, those that did wait.
            "heartbeat_interval_ms": min(settings.session_timeout_ms // 10, 300),
        }
        | configs,
    )


def reader(settings: Settings, topics: Iterable[str], **configs: Any) -> KafkaConsumer:
    """A consumer of committed messages, outside any group, at the beginning of every partition of the topics."""
    made = _consumer(settings, group_id=None, **configs)
    if assign(made, topics):
        made.seek_to_beginning()
    return made


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
    """Every committed record of the topics (or of these partitions of them) up to their end as of now."""
    consumer = reader(settings, topics, **configs)
    try:
        if partitions is not None:
            wanted = set(partitions)
            consumer.assign([one for one in consumer.assignment() if one.partition in wanted])
            consumer.seek_to_beginning()
        yield from drain(consumer)
    finally:
        consumer.close()


def read_from(settings: Settings, topic: str, start: Mapping[int, int]) -> Iterator[ConsumerRecord]:
    """Every committed record of a topic from `start` (partition to offset; 0 where absent) to its end as of now."""
    consumer = reader(settings, [topic])
    try:
        for partition, offset in start.items():
            consumer.seek(TopicPartition(topic, partition), offset)
        yield from drain(consumer)
    finally:
        consumer.close()


def record_at(settings: Settings, topic: str, partition: int, offset: int) -> ConsumerRecord | None:
    """The committed record at a place in a topic; None if the topic does not hold it, or no longer."""
    consumer = _consumer(settings, group_id=None)
    try:
        at = TopicPartition(topic, partition)
        if partition not in (consumer.partitions_for_topic(topic) or ()):
            return None
        consumer.assign([at])
        if not consumer.beginning_offsets([at])[at] <= offset < consumer.end_offsets([at])[at]:
            return None
        consumer.seek(at, offset)
        found = next(drain(consumer), None)
        return found if found is not None and found.offset == offset else None
    finally:
        consumer.close()


def drain(consumer: KafkaConsumer) -> Iterator[ConsumerRecord]:
    """Records from the consumer's positions to the partitions' ends as of now."""
    ends = consumer.end_offsets(list(consumer.assignment()))
    moved = time.monotonic()
    while not reached(consumer, ends):
        polled = consumer.poll(timeout_ms=200, max_records=CHUNK)
        for partition, records in polled.items():
            yield from (record for record in records if record.offset < ends[partition])
        if polled:
            moved = time.monotonic()
        elif time.monotonic() - moved > STUCK_AFTER_S:
            raise BrokerUnavailable(f"no message came for {STUCK_AFTER_S} s before the end of {sorted(ends)}")


def reached(consumer: KafkaConsumer, ends: dict[TopicPartition, int]) -> bool:
    """Whether the consumer stands at or behind every end; a position that is not known yet is not there."""
    return all((consumer.position(partition) or 0) >= end for partition, end in ends.items() if end > 0)


def high_watermarks(settings: Settings, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
    """The ends of partitions, counting what open transactions have written."""
    with closing(admin(settings)) as one:
        found = one.list_partition_offsets(dict.fromkeys(partitions, OffsetSpec.LATEST))
    return {partition: end.offset for partition, end in found.items()}


def admin(settings: Settings) -> KafkaAdminClient:
    """An admin client. Raises `BrokerUnavailable`."""
    with _translated(settings):
        return KafkaAdminClient(**_connection(settings, "admin"))


def require_topics(settings: Settings) -> None:
    """Raises `TopicsDiffer` unless every topic is there with the right number of partitions.

    A cluster of which one broker is away answers in the end.
    """
    deadline = time.monotonic() + BOOTSTRAP_TIMEOUT_MS / 1000
    while True:
        try:
            with closing(admin(settings)) as one:
                return require(one, settings, configs=False)
        except RetriableError:
            if time.monotonic() > deadline:
                raise
            time.sleep(RETRY_S)


def _consumer(settings: Settings, **configs: Any) -> KafkaConsumer:
    read_any_name()
    with _translated(settings):
        return KafkaConsumer(
            **_connection(settings, "consumer"),
            **{
                "enable_auto_commit": False,
                "auto_offset_reset": "earliest",
                "isolation_level": "read_committed",
                "allow_auto_create_topics": False,
                "fetch_max_wait_ms": 100,
                "max_partition_fetch_bytes": max(settings.max_message_bytes + ENVELOPE_BYTES, 1_048_576),
                # The embedded broker ignores fetch limits and answers with all there is in one frame.
                "receive_message_max_bytes": MAX_FRAME_BYTES,
                "metrics_enabled": False,
            }
            | configs,
        )


def _connection(settings: Settings, role: str) -> dict[str, Any]:
    """What every client has in common."""
    password = settings.sasl_password
    return {
        "bootstrap_servers": settings.bootstrap_servers.split(","),
        "client_id": f"{settings.client_id}-{role}",
        "security_protocol": settings.security_protocol,
        "sasl_mechanism": settings.sasl_mechanism,
        "sasl_plain_username": settings.sasl_username,
        "sasl_plain_password": Unprinted(password.reveal()) if password else None,
        "ssl_context": tls_context(settings),
        "kafka_client": net_client,
        "bootstrap_timeout_ms": BOOTSTRAP_TIMEOUT_MS,
    }


class Unprinted(str):
    """A string for kafka-python, which logs a client's whole configuration at DEBUG."""

    def __repr__(self) -> str:
        return "…"


@contextmanager
def _translated(settings: Settings) -> Iterator[None]:
    """Say where the broker was looked for, and what to do about it."""
    try:
        yield
    except KafkaError as error:
        if is_refusal(error):
            raise refused(settings, error) from error
        raise BrokerUnavailable(
            f"no broker at {settings.bootstrap_servers} ({settings.security_protocol}): {error}. "
            "Is it running, and is security_protocol what it speaks there? "
            "Set bootstrap_servers or ANABRANCH_BOOTSTRAP_SERVERS to where it is"
        ) from error
