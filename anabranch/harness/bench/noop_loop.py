"""The echo: a ranker's consume-produce loop with a ranker's messages, and no work between. No ranker is faster."""

from __future__ import annotations

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
from anabranch.kafka.topics import Topics
from anabranch.settings import Settings
from consumers.runtime.group_consumer import Intake
from consumers.runtime.outbound import Outgoing
from consumers.runtime.publishers import Transactions

PATIENCE_S = 60.0
"""How long the loop waits for a next event."""


class Echoed(Struct, frozen=True):
    """What is to be echoed, from a file: events from `since` on, `events` of them, answered by these pairs in turn."""

    group: str
    since: Offsets
    events: Annotated[int, msgspec.Meta(ge=1)]
    answers: list[tuple[bytes, bytes]]
    """A ranking and a feedback."""

    def write(self, path: Path) -> None:
        """For `read`."""
        path.write_bytes(msgspec.msgpack.encode(self))

    @classmethod
    def read(cls, path: Path) -> Echoed:
        """What was written."""
        return msgspec.msgpack.decode(path.read_bytes(), type=cls)


def topics_of(topics: Topics) -> tuple[str, str]:
    """Where the echo's rankings and feedback go."""
    return f"{topics.rankings}-echo", f"{topics.feedback}-echo"


def echo(settings: Settings, echoed: Echoed) -> None:
    """Answer every event, one transaction a batch, by the ranker's own intake and transactions."""
    settings = msgspec.structs.replace(settings, ranker_group=echoed.group)
    topics = Topics(settings)
    intake, publisher = Intake(settings, topics.events), Transactions(settings, settings.group("ranker"))
    answered, heard = 0, time.monotonic()
    try:
        while answered < echoed.events:
            change = intake.rebalanced()
            for partition in change.assigned if change is not None else ():
                intake.open(partition, echoed.since[partition])
            records = intake.collect(lambda seconds: None)
            if records:
                heard = time.monotonic()
                ends = {TopicPartition(topics.events, one.partition): one.offset + 1 for one in records}
                messages = list(_messages(records, echoed.answers, topics_of(topics), answered))
                publisher.publish(messages, ends, intake.membership)
                answered += len(records)
            elif time.monotonic() - heard > PATIENCE_S:
                raise BrokerUnavailable(f"the echo waited {PATIENCE_S:.0f} s for its next event")
    finally:
        publisher.close()
        intake.close()


def _messages(
    records: Sequence[ConsumerRecord], answers: Sequence[tuple[bytes, bytes]], names: tuple[str, str], first: int
) -> Iterator[Outgoing]:
    for number, record in enumerate(records, start=first):
        for name, value in zip(names, answers[number % len(answers)], strict=True):
            yield Outgoing(name, record.key, value, record.partition)
