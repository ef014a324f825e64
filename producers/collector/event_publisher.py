"""Events to Kafka, with an answer for each batch."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Protocol

from anabranch.kafka.batch_delivery import BatchDelivery
from anabranch.messages import Event
from producers.event_record import event_record

log = logging.getLogger(__name__)


class NotAcknowledged(Exception):
    """The broker has not acknowledged every event of a batch; it may still have some of them."""


class EventPublisher(Protocol):
    """Publishes the events of one request."""

    def publish(self, events: Sequence[Event]) -> asyncio.Future[None]:
        """A future of the running event loop: done once the broker has acknowledged every one of the events, or with
        `NotAcknowledged`."""


class KafkaEventPublisher:
    """Publishes to a topic."""

    def __init__(self, topic: str, delivery: BatchDelivery) -> None:
        self._topic = topic
        self._delivery = delivery

    def publish(self, events: Sequence[Event]) -> asyncio.Future[None]:
        """As `EventPublisher` says."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()

        def report(error: Exception | None) -> None:
            try:
                loop.call_soon_threadsafe(_complete, future, error)
            except RuntimeError:  # the loop has ended, and with it whoever waited
                log.warning("a batch was reported after the end of the server: %s", error or "acknowledged")

        self._delivery.submit([event_record(self._topic, event) for event in events], report)
        return future


def _complete(future: asyncio.Future[None], error: Exception | None) -> None:
    if error is None:
        future.set_result(None)
    else:
        future.set_exception(NotAcknowledged(repr(error)))
