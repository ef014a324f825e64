"""The newest records of a log that answer a question, read from its end."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import TypeVar

from kafka import TopicPartition
from kafka.consumer.fetcher import ConsumerRecord

from anabranch.kafka.log_bounds import LogBounds
from anabranch.kafka.log_reader import PartitionReader

WINDOW_RECORDS, WINDOW_GROWTH = 64, 8
"""Offsets that are read first, and how many times more each time that this was not enough: a transaction's last record
may stand before the markers of its end and of aborted ones."""

Found = TypeVar("Found")
Steps = Generator[None, None, Found]
"""Yields between steps, so that other work gets its turn."""


def search_backwards(
    reader: PartitionReader,
    partition: TopicPartition,
    bounds: LogBounds,
    search: Callable[[list[ConsumerRecord]], Steps[Found | None]],
) -> Steps[Found | None]:
    """What `search` finds in the last window of committed records in which it finds anything; None if in none."""
    end, length = bounds.end, WINDOW_RECORDS
    while end > bounds.start:
        start = max(bounds.start, end - length)
        window: list[ConsumerRecord] = []
        for records in reader.read(partition, start, end):
            window += records
            yield
        answer = yield from search(window)
        if answer is not None:
            return answer
        end, length = start, length * WINDOW_GROWTH
    return None


def find_newest(
    reader: PartitionReader,
    partition: TopicPartition,
    bounds: LogBounds,
    read: Callable[[ConsumerRecord], Found | None],
) -> Steps[Found | None]:
    """What `read` returns for the newest committed record for which that is not None; None if there is none."""

    def search(records: list[ConsumerRecord]) -> Steps[Found | None]:
        yield from ()
        return next((answer for record in reversed(records) if (answer := read(record)) is not None), None)

    return search_backwards(reader, partition, bounds, search)
