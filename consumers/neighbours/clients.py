"""The connections of the neighbours job to Kafka, made by the composition root and passed in."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass

from kafka import KafkaConsumer

from anabranch.co_visit.shard import Shard
from anabranch.kafka import clients
from anabranch.kafka.log_reader import KafkaLogReader, LogReader
from anabranch.kafka.topics import Topics
from anabranch.kafka.transactional_producer import TransactionalProducer
from anabranch.settings import Settings
from consumers.runtime.publishers import Publisher, TransactionalPublisher


@dataclass(frozen=True)
class NeighboursClients:
    """All that the job reaches outside its process, apart from its file and the release folders."""

    consumer: KafkaConsumer
    """Reads all partitions of `releases`, and of `events`, which are paused until there is a rule to count them by."""
    publisher: Publisher
    log_reader: LogReader

    def close(self) -> None:
        """Close all of them, even if one fails."""
        with ExitStack() as stack:
            stack.callback(self.log_reader.close)
            stack.callback(self.consumer.close)
            stack.callback(self.publisher.close)


def connect(settings: Settings) -> NeighboursClients:
    """The clients for these settings. Raises `BrokerUnavailable` and `BrokerRefused`."""
    topics = Topics(settings)
    transactional_id = f"{settings.group('neighbours')}{Shard.from_settings(settings).suffix}"
    publisher = TransactionalPublisher(
        settings,
        transactional_id,
        lambda: TransactionalProducer(settings, transactional_id),
        remedy="Run one `anabranch neighbours`, or give each a `neighbours_shard` of its own",
    )
    consumer = clients.follower(settings, [topics.events, topics.releases])
    consumer.pause(*(partition for partition in consumer.assignment() if partition.topic == topics.events))
    return NeighboursClients(consumer, publisher, KafkaLogReader(settings))
