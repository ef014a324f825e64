"""Whether the broker is there, and the topic that events go to."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Protocol

from kafka.errors import KafkaError

from anabranch.errors import AnabranchError

INTERVAL_S = 5.0
STALE_AFTER_S = 15.0
"""A client of a broker that does not answer waits for up to a minute, so an old answer does not count."""
log = logging.getLogger(__name__)


class TopicLookup(Protocol):
    """What the check asks a broker: `anabranch.kafka.topic_admin.TopicAdmin`."""

    def partitions(self, names: list[str]) -> dict[str, int]:
        """How many partitions each topic has, of those that exist."""

    def close(self) -> None:
        """Close the client."""


class BrokerCheck:
    """Asks the broker again and again, in a thread of its own."""

    def __init__(
        self, topic: str, connect: Callable[[], TopicLookup], monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        """`connect` may raise `BrokerUnavailable`."""
        self._topic = topic
        self._connect = connect
        self._monotonic = monotonic
        self._client: TopicLookup | None = None
        self._missing: str | None = "the broker has not answered yet"
        self._answered_at_s = monotonic()

    @property
    def missing(self) -> str | None:
        """What is missing to publish events; None: nothing."""
        age_s = self._monotonic() - self._answered_at_s
        if age_s > STALE_AFTER_S:
            return f"the broker has not answered for {age_s:.0f} s"
        return self._missing

    def check(self) -> None:
        """Ask the broker once."""
        try:
            missing = self._ask()
        except (KafkaError, AnabranchError) as error:
            missing = f"the broker cannot be reached: {error}"
            self.close()
        if missing is not None and missing != self._missing:
            log.warning("events cannot be published: %s", missing)
        self._missing = missing

    def _ask(self) -> str | None:
        if self._client is None:
            self._client = self._connect()
        partitions = self._client.partitions([self._topic])
        self._answered_at_s = self._monotonic()
        return None if self._topic in partitions else f"there is no topic {self._topic}"

    def close(self) -> None:
        """Close the connection."""
        client, self._client = self._client, None
        if client is not None:
            client.close()

    def start(self, stop: threading.Event) -> None:
        """Ask every `INTERVAL_S` seconds until `stop` is set."""
        threading.Thread(target=self._run, args=(stop,), name="broker-check", daemon=True).start()

    def _run(self, stop: threading.Event) -> None:
        while not stop.is_set():
            try:
                self.check()
            except Exception:  # without this thread the process would never be ready again
                log.exception("the check of the broker failed")
                self._client = None
            stop.wait(INTERVAL_S)
        self.close()
