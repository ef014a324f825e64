"""Sending many messages and answering for every one of them."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from kafka import KafkaProducer

from anabranch import clients
from anabranch.settings import Settings

FLUSH_S = 120
TELL_EVERY_S = 0.1


class Delivery:
    """Sends within a block; leaving it waits for the broker, and raises the first message it refused."""

    def __init__(self, settings: Settings, progress: Callable[[int], None]) -> None:
        self._producer: KafkaProducer = clients.producer(settings)
        self._progress = progress
        self._untold = 0
        self._told_at = time.monotonic()
        self._refused: Exception | None = None

    def send(self, topic: str, key: bytes, value: bytes | None) -> None:
        """Send one message; raises as soon as an earlier one is known to be refused."""
        if self._refused is not None:
            raise self._refused
        self._producer.send(topic, value=value, key=key).add_errback(self._refuse)
        self._untold += 1
        if time.monotonic() - self._told_at > TELL_EVERY_S:
            self._tell()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        try:
            self._producer.flush(FLUSH_S)
        finally:
            self._producer.close()
        self._tell()
        if kind is None and self._refused is not None:
            raise self._refused

    def _refuse(self, error: Exception) -> None:
        self._refused = self._refused or error

    def _tell(self) -> None:
        self._progress(self._untold)
        self._untold, self._told_at = 0, time.monotonic()
