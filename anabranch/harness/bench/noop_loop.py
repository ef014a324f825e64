"""The loop of the no-op baseline, a process of its own: consume events, publish prepared messages, commit."""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

import msgspec
from kafka import TopicPartition
from kafka.consumer.fetcher import ConsumerRecord
from msgspec import Struct

from anabranch.errors import BrokerUnavailable
from anabranch.kafka.offsets import Offsets
from anabranch.kafka.records import OutboundRecord
from anabranch.kafka.topics import Topics
from anabranch.settings import Settings
from consumers.ranker.clients import transactional_publisher
from consumers.runtime.group_consumer import KafkaGroupConsumer

IDLE_TIMEOUT_S = 60.0
"""How long the loop waits for its next event."""


class NoopWork(Struct, frozen=True):
    """The input of the loop, from a file: answer `events` events from `first_offsets` on with these answers in turn."""

    group: str
    first_offsets: Offsets
    events: Annotated[int, msgspec.Meta(ge=1)]
    answers: list[tuple[bytes, bytes]]
    """Pairs of ranking and feedback."""

    def write(self, path: Path) -> None:
        """Write it for `read`."""
        path.write_bytes(msgspec.msgpack.encode(self))

    @classmethod
    def read(cls, path: Path) -> NoopWork:
        """Read what `write` wrote. Raises `msgspec.ValidationError`."""
        return msgspec.msgpack.decode(path.read_bytes(), type=cls)


def output_topics(topics: Topics) -> tuple[str, str]:
    """The topics of the baseline's rankings and feedback."""
    return f"{topics.rankings}-echo", f"{topics.feedback}-echo"


def run_noop_loop(settings: Settings, work: NoopWork) -> None:
    """Answer every event, one transaction per batch, with the ranker's own group consumer and publisher."""
    settings = msgspec.structs.replace(settings, ranker_group=work.group)
    topics = Topics(settings)
    group, publisher = KafkaGroupConsumer(settings, topics.events), transactional_publisher(settings)
    gc.freeze()  # as a ranker does: else the collector goes through all loaded modules with every few batches
    answered, last_event_at = 0, time.monotonic()
    try:
        while answered < work.events:
            rebalance = group.take_rebalance()
            for partition in rebalance.assigned if rebalance is not None else ():
                group.resume(partition, work.first_offsets[partition])
            records = group.poll_batch(work.first_offsets, settings.batch_max, lambda seconds: None)
            if records:
                last_event_at = time.monotonic()
                next_offsets = {
                    TopicPartition(topics.events, record.partition): record.offset + 1 for record in records
                }
                outputs = list(_answers(records, work.answers, output_topics(topics), answered))
                publisher.publish(outputs, next_offsets, group.group_metadata)
                answered += len(records)
            elif time.monotonic() - last_event_at > IDLE_TIMEOUT_S:
                raise BrokerUnavailable(f"the no-op loop got no event for {IDLE_TIMEOUT_S:.0f} s")
    finally:
        publisher.close()
        group.close()


def _answers(
    records: Sequence[ConsumerRecord], answers: Sequence[tuple[bytes, bytes]], names: tuple[str, str], first: int
) -> Iterator[OutboundRecord]:
    for number, record in enumerate(records, start=first):
        for name, value in zip(names, answers[number % len(answers)], strict=True):
            yield OutboundRecord(name, record.key, value, record.partition)
