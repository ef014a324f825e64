"""The ranker's connections to Kafka, made by the composition root and passed in."""

from __future__ import annotations

import uuid
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field

from anabranch.kafka import clients
from anabranch.kafka.log_reader import KafkaLogReader, LogReader
from anabranch.kafka.topics import Topics
from anabranch.kafka.transactional_producer import TransactionalProducer
from anabranch.settings import Settings
from consumers.ranker.pending_transaction import SynchronousExecutor
from consumers.runtime.clock import Clock
from consumers.runtime.group_consumer import GroupConsumer, KafkaGroupConsumer
from consumers.runtime.publishers import AtLeastOncePublisher, Publisher, TransactionalPublisher


@dataclass(frozen=True)
class RankerClients:
    """All that a ranker reaches outside its process."""

    group: GroupConsumer
    publisher: Publisher
    publish_executor: Executor
    """Runs `publisher.publish`, one call at a time."""
    log_reader: LogReader
    clock: Clock = field(default_factory=Clock)

    def close(self) -> None:
        """Close all of it, whatever fails; the group first, since other members wait for its partitions."""
        with ExitStack() as stack:  # which calls the last one first
            stack.callback(self.log_reader.close)
            stack.callback(self.publisher.close)
            stack.callback(self.group.close)
            stack.callback(self.publish_executor.shutdown)


def connect(settings: Settings) -> RankerClients:
    """The clients that the settings ask for. Raises `BrokerUnavailable` and `BrokerRefused`."""
    topics = Topics(settings)
    group = KafkaGroupConsumer(settings, topics.events)
    log_reader = KafkaLogReader(settings)
    transactions = transactional_publisher(settings)
    if settings.processing_guarantee == "exactly_once":
        return RankerClients(group, transactions, ThreadPoolExecutor(1, "publish"), log_reader)
    publisher = AtLeastOncePublisher(settings, clients.producer(settings), group.commit, transactions)
    # It commits through the group's consumer, which belongs to the main thread.
    return RankerClients(group, publisher, SynchronousExecutor(), log_reader)


def transactional_publisher(settings: Settings) -> TransactionalPublisher:
    """A publisher under the transactional id of this process. Raises `BrokerUnavailable`."""
    transactional_id = f"{settings.group('ranker')}-{settings.instance or uuid.uuid4().hex}"
    return TransactionalPublisher(settings, transactional_id, lambda: TransactionalProducer(settings, transactional_id))
