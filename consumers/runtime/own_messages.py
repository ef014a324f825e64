"""What this project wrote itself, on `releases`, `item-vectors`, `neighbours`, `rankings`: read, or passed over."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypeVar

from kafka.consumer.fetcher import ConsumerRecord

from anabranch.messages import Codec
from anabranch.metrics import ConsumerMetrics

Key = TypeVar("Key")
Message = TypeVar("Message")
log = logging.getLogger(__name__)


def read(
    codec: Codec[Message], key: Callable[[bytes], Key], record: ConsumerRecord, metrics: ConsumerMetrics
) -> tuple[Key, Message | None] | None:
    """Key and message of a record, the message None for a tombstone; None for what another hand put there.

    That is told by the log and a metric and changes nothing: a process that stopped at it would stop at every start.
    """
    try:
        return key(record.key or b""), None if record.value is None else codec.decode(record.value)
    except ValueError as error:
        log.warning(
            "passing over offset %d of partition %d of %s: %s", record.offset, record.partition, record.topic, error
        )
        metrics.passed_over.labels(record.topic).inc()
        return None
