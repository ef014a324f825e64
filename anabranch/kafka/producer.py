"""A producer that reports every refused record."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Self

from kafka import KafkaProducer

FLUSH_TIMEOUT_S = 120
PROGRESS_INTERVAL_S = 0.1


class CheckedProducer:
    """Sends through a non-transactional producer, and raises if the broker refuses a record, at `flush` at the latest.

    As a context manager it flushes at the end of the block. `progress(n)` is called after every n records.
    """

    def __init__(self, producer: KafkaProducer, progress: Callable[[int], None] = lambda n: None) -> None:
        self._producer = producer
        self._progress = progress
        self._unreported = 0
        self._reported_at_s = time.monotonic()
        self._error: Exception | None = None

    def send(
        self, topic: str, key: bytes | None, value: bytes | None, headers: Sequence[tuple[str, bytes]] | None = None
    ) -> None:
        """Send one record. Raises the error of an earlier record, once it is known."""
        self._check()
        listed = list(headers or ())  # which is all that kafka-python takes
        self._producer.send(topic, value=value, key=key, headers=listed).add_errback(self._on_error)
        self._unreported += 1
        if time.monotonic() - self._reported_at_s > PROGRESS_INTERVAL_S:
            self._report_progress()

    def flush(self) -> None:
        """Wait until the broker has acknowledged every record. Raises the first error."""
        self._producer.flush(FLUSH_TIMEOUT_S)
        self._report_progress()
        self._check()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is None:
            self.flush()

    def _check(self) -> None:
        if self._error is not None:
            raise self._error

    def _on_error(self, error: Exception) -> None:
        self._error = self._error or error

    def _report_progress(self) -> None:
        self._progress(self._unreported)
        self._unreported, self._reported_at_s = 0, time.monotonic()
