"""Events and identities to Kafka, with an answer for each batch."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Protocol

from anabranch.kafka.batch_delivery import BatchDelivery
from anabranch.kafka.records import OutboundRecord
from anabranch.kafka.topics import Topics
from anabranch.messages import Event
from producers.event_record import event_record
from producers.identity_record import IdentifiedVisitor, identity_record

log = logging.getLogger(__name__)


class NotAcknowledged(Exception):
    """The broker has not acknowledged every record of a batch; it may still have some of them."""


class EventPublisher(Protocol):
    """Publishes what one request holds, which is encoded once: before it is published, its size counts in flight."""

    def records(self, events: Sequence[Event], identities: Sequence[IdentifiedVisitor]) -> list[OutboundRecord]:
        """The events and identities, encoded."""

    def publish(self, records: Sequence[OutboundRecord]) -> asyncio.Future[None]:
        """A future of the running event loop: done once the broker has acknowledged every one of them, or with
        `NotAcknowledged`. There must be one at least."""


class KafkaEventPublisher:
    """Publishes to the topics of an installation."""

    def __init__(self, topics: Topics, delivery: BatchDelivery) -> None:
        self._topics = topics
        self._delivery = delivery

    def records(self, events: Sequence[Event], identities: Sequence[IdentifiedVisitor]) -> list[OutboundRecord]:
        """As `EventPublisher` says."""
        records = [event_record(self._topics.events, event) for event in events]
        records += [identity_record(self._topics.identities, visitor) for visitor in identities]
        return records

    def publish(self, records: Sequence[OutboundRecord]) -> asyncio.Future[None]:
        """As `EventPublisher` says."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()

        def report(error: Exception | None) -> None:
            try:
                loop.call_soon_threadsafe(_complete, future, error)
            except RuntimeError:  # the loop has ended, and with it whoever waited
                log.warning("a batch was reported after the end of the server: %s", error or "acknowledged")

        self._delivery.submit(records, report)
        return future


def _complete(future: asyncio.Future[None], error: Exception | None) -> None:
    if error is None:
        future.set_result(None)
    else:
        future.set_exception(NotAcknowledged(repr(error)))
