"""Sending many messages and answering for every one of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Self

from kafka import KafkaProducer

FLUSH_S = 120
TELL_EVERY_S = 0.1


class Delivery:
    """Sends through a plain producer and raises for every message the broker refuses, at the latest when flushed.

    As a context manager it flushes at the end of the block. `progress(n)` is told of every n messages sent.
    """

    def __init__(self, producer: KafkaProducer, progress: Callable[[int], None] = lambda n: None) -> None:
        self._producer = producer
        self._progress = progress
        self._untold = 0
        self._told_at = time.monotonic()
        self._refused: Exception | None = None

    def send(
        self, topic: str, key: bytes | None, value: bytes | None, headers: Sequence[tuple[str, bytes]] | None = None
    ) -> None:
        """Send one message; raises as soon as an earlier one is known to be refused."""
        self._check()
        self._producer.send(topic, value=value, key=key, headers=headers).add_errback(self._refuse)
        self._untold += 1
        if time.monotonic() - self._told_at > TELL_EVERY_S:
            self._tell()

    def flush(self) -> None:
        """Wait until the broker has every message; raises the first it refused."""
        self._producer.flush(FLUSH_S)
        self._tell()
        self._check()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if kind is None:
            self.flush()

    def _check(self) -> None:
        if self._refused is not None:
            raise self._refused

    def _refuse(self, error: Exception) -> None:
        self._refused = self._refused or error

    def _tell(self) -> None:
        self._progress(self._untold)
        self._untold, self._told_at = 0, time.monotonic()
