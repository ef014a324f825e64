"""Transactions: a batch's messages and its consumed offsets are published together or not at all."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Iterable, Mapping
from typing import Any

from kafka import KafkaProducer, TopicPartition
from kafka.errors import KafkaError, ProducerFencedError
from kafka.structs import OffsetAndMetadata

from anabranch import clients
from anabranch.errors import AnabranchError, Fenced
from anabranch.settings import Settings
from consumers.outgoing import Outgoing

CLOSE_S = 5
log = logging.getLogger(__name__)


class RolledBack(AnabranchError):
    """The transaction did not commit, as far as this process knows: the committed offsets say what holds."""


class Transactions:
    """A producer of transactions whose id belongs to this process alone."""

    def __init__(self, settings: Settings, group: str) -> None:
        self._settings = settings
        self._id = f"{group}-{settings.instance or uuid.uuid4().hex}"
        self._producer: KafkaProducer = clients.transactional_producer(settings, self._id)

    def publish(self, outgoing: Iterable[Outgoing], offsets: Mapping[TopicPartition, int], membership: Any) -> None:
        """Publish the messages and commit `offsets`, the next to consume, for the group as of `membership`.

        The membership fences this process: if the group has moved on since, nothing is published. Raises
        `RolledBack`, after which another transaction may be tried, and `Fenced`, after which none may.
        """
        try:
            self._producer.begin_transaction()
            for topic, key, value, partition, headers in outgoing:
                self._producer.send(topic, value=value, key=key, headers=headers, partition=partition)
            consumed = {partition: OffsetAndMetadata(offset, "", -1) for partition, offset in offsets.items()}
            self._producer.send_offsets_to_transaction(consumed, membership)
            self._producer.commit_transaction()
        except ProducerFencedError as error:
            raise Fenced(
                f"another process uses the transactional id {self._id}, or this one stood still for longer than "
                f"transaction_timeout_ms ({self._settings.transaction_timeout_ms}): it must start anew"
            ) from error
        except KafkaError as error:
            self._start_anew()
            raise RolledBack(f"the transaction was rolled back: {error}") from error

    def close(self) -> None:
        """Close the producer; no transaction is open between calls of `publish`."""
        self._producer.close(timeout=CLOSE_S)

    def _start_anew(self) -> None:
        """Replace the producer by one with the same id, which ends the open transaction.

        An aborted producer of kafka-python 3.0.12 must not be used again: offsets the group refused stay with it
        and go into its next transaction, which would commit events that nobody ranked.
        """
        for give_up in (self._producer.abort_transaction, self.close):
            try:
                give_up()
            except KafkaError as error:  # its successor ends the transaction in any case
                log.warning("while giving up a producer: %s", error)
        self._producer = clients.transactional_producer(self._settings, self._id)
