"""Dead letters to publish, and the commands that list and replay them."""

from __future__ import annotations

from collections import Counter
from contextlib import closing
from typing import Any

import msgspec
from kafka.consumer.fetcher import ConsumerRecord
from typer.testing import CliRunner, Result

from anabranch.cli.main import app
from anabranch.kafka import clients
from anabranch.kafka.headers import HeaderName
from consumers.runtime.dead_letter import DeadLetter
from tests.kafka.world import World

OWN = [("trace", b"1"), ("reason", b"a producer's own"), (HeaderName(b"\xff"), b"2")]


def run(world: World, *arguments: str) -> Result:
    """Run `anabranch dead-letters …` in this process."""
    settings = world.settings
    return CliRunner().invoke(
        app,
        [
            *("--bootstrap-servers", settings.bootstrap_servers),
            *("--topic-prefix", settings.topic_prefix),
            *("--set", f"partitions={settings.partitions}"),
            "dead-letters",
            *arguments,
        ],
    )


def listed(world: World, *arguments: str) -> list[dict[str, Any]]:
    result = run(world, "show", *arguments)
    assert result.exit_code == 0, result.output
    return [msgspec.json.decode(line) for line in result.stdout.splitlines()]


def dead_letter(
    world: World,
    value: bytes | None,
    key: bytes | None = b"u0",
    topic: str | None = None,
    offset: int = 0,
    partition: int = 1,
) -> DeadLetter:
    """A dead letter of a record of `events` (or of `topic`)."""
    record = ConsumerRecord(topic or world.topics.events, partition, 0, offset, 1, 1, key, value, OWN, None, 0, 0, 0)
    return DeadLetter(record, "empty" if value is None else "invalid", "a reason")


def publish_dead_letters(world: World, *dead_letters: DeadLetter) -> None:
    """Publish dead letters, as a ranker or the indexer does."""
    with closing(clients.producer(world.settings)) as producer:
        for dead_letter in dead_letters:
            record = dead_letter.to_record(world.topics.dead_letter)
            producer.send(record.topic, key=record.key, value=record.value, headers=record.headers, timestamp_ms=1)
        producer.flush()


def values(world: World, topic: str) -> Counter[bytes | None]:
    return Counter(record.value for record in world.records(topic))


def numbered(world: World, count: int) -> list[DeadLetter]:
    return [dead_letter(world, b"%03d" % number, key=b"u%d" % (number % 5)) for number in range(count)]
