"""The indexer's connections to Kafka, made by the composition root and passed in."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial

from kafka import KafkaConsumer, KafkaProducer

from anabranch.kafka import clients
from anabranch.kafka.log_reader import KafkaLogReader, LogReader
from anabranch.kafka.topics import Topics
from anabranch.settings import Settings


@dataclass(frozen=True)
class IndexerClients:
    """All that an indexer reaches outside its process, apart from the release folders."""

    consumer: KafkaConsumer
    """Reads all partitions of `items` and `releases`, from the beginning. It does not join the indexer's group, and
    commits offsets for it."""
    producer: KafkaProducer
    log_reader: LogReader

    def close(self) -> None:
        """Close all of them, even if one fails."""
        with ExitStack() as stack:  # calls the last callback first
            stack.callback(self.log_reader.close)
            stack.callback(partial(self.consumer.close, autocommit=False))
            stack.callback(self.producer.close)


def connect(settings: Settings) -> IndexerClients:
    """The clients for these settings. Raises `BrokerUnavailable` and `BrokerRefused`."""
    topics = Topics(settings)
    producer = clients.producer(settings)
    consumer = clients.group_consumer(
        settings,
        settings.group("indexer"),
        max_poll_records=clients.POLL_RECORDS,
        fetch_max_wait_ms=clients.IDLE_WAIT_MS,
        auto_offset_reset="none",
    )
    clients.assign(consumer, [topics.items, topics.releases])
    consumer.seek_to_beginning()
    return IndexerClients(consumer, producer, KafkaLogReader(settings))
