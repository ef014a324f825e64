"""The records of hand-assigned partitions, fetched in a thread of their own."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import closing
from typing import Protocol

from kafka import KafkaConsumer, TopicPartition
from kafka.consumer.fetcher import ConsumerRecord

from anabranch.kafka import clients
from anabranch.kafka.clients import IDLE_WAIT_MS
from anabranch.settings import Settings

MAX_WAITING_RECORDS = 20_000
"""Fetched records that wait to be taken; beyond them, no more are fetched."""
MAX_POLL_RECORDS = 2_000
FULL_WAIT_S = 0.01
GATHER_S = 0.01
"""From records to the next fetch: what comes meanwhile is fetched, handed over and applied together, which costs little
more than a single event. An event after a pause does not wait."""

log = logging.getLogger(__name__)


class LogSource(Protocol):
    """What a replica reads: `events` and `user-state`, from an offset of each partition on."""

    def start(self, positions: Mapping[TopicPartition, int]) -> None:
        """Fetch the records of these partitions from these offsets on, in place of those before."""

    def take(self, limit: int) -> list[ConsumerRecord]:
        """Up to `limit` of the fetched records, in the order of each log; it does not wait.

        Raises what ended the fetching, such as `OffsetOutOfRangeError`.
        """

    def end_offsets(self) -> dict[TopicPartition, int]:
        """The end of each partition as the newest fetch saw it; without those that were not fetched yet."""

    def close(self) -> None:
        """End the fetching."""


class KafkaLogSource:
    """The `LogSource` of a real cluster: a consumer without a group."""

    def __init__(self, settings: Settings, on_records: Callable[[], None]) -> None:
        """`on_records` is called in the fetching thread whenever there are records to take, or an error."""
        self._settings = settings
        self._on_records = on_records
        self._fetching: _Fetching | None = None

    def start(self, positions: Mapping[TopicPartition, int]) -> None:
        """See `LogSource`."""
        self.close()
        self._fetching = _Fetching(self._settings, positions, self._on_records)

    def take(self, limit: int) -> list[ConsumerRecord]:
        """See `LogSource`."""
        return [] if self._fetching is None else self._fetching.take(limit)

    def end_offsets(self) -> dict[TopicPartition, int]:
        """See `LogSource`."""
        fetching = self._fetching  # any thread may ask, while another ends the fetching
        return {} if fetching is None else dict(fetching.ends)

    def close(self) -> None:
        """See `LogSource`."""
        if self._fetching is not None:
            self._fetching.stop()
            self._fetching = None


class _Fetching:
    """One thread with one consumer."""

    def __init__(
        self, settings: Settings, positions: Mapping[TopicPartition, int], on_records: Callable[[], None]
    ) -> None:
        self._settings = settings
        self._positions = positions
        self._on_records = on_records
        self._records: deque[ConsumerRecord] = deque()
        self._stop = threading.Event()
        self._failure: BaseException | None = None
        self.ends: dict[TopicPartition, int] = {}
        self._thread = threading.Thread(target=self._run, name="log-source", daemon=True)
        self._thread.start()

    def take(self, limit: int) -> list[ConsumerRecord]:
        if self._failure is not None and not self._records:
            raise self._failure
        return [self._records.popleft() for _ in range(min(limit, len(self._records)))]

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        try:
            with closing(clients.follower(self._settings, [])) as consumer:
                consumer.assign(list(self._positions))
                for partition, offset in self._positions.items():
                    consumer.seek(partition, offset)
                while not self._stop.is_set():
                    self._poll(consumer)
        except BaseException as error:  # `take` raises it in the thread that folds
            self._failure = error
            self._on_records()

    def _poll(self, consumer: KafkaConsumer) -> None:
        if len(self._records) >= MAX_WAITING_RECORDS:
            self._stop.wait(FULL_WAIT_S)
            return
        polled = consumer.poll(timeout_ms=IDLE_WAIT_MS, max_records=MAX_POLL_RECORDS)
        for records in polled.values():
            self._records.extend(records)
        self.ends.update(clients.fetched_ends(consumer, self._positions))
        if polled:
            self._on_records()
            self._stop.wait(GATHER_S)
