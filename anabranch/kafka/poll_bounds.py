"""Polls that are bounded by bytes and by time, and not by the number of records alone.

kafka-python 3.0.12 bounds a poll by `max_records`, and a fetch by the bytes on the wire. A compressed megabyte can hold
thousands of records of a megabyte each, or records with a hundred thousand headers, whose parsing takes a second. Such
a poll would take more memory than the machine has, or longer than the group waits for a member. No upstream issue is
known.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from kafka.consumer import group
from kafka.consumer.fetcher import ConsumerRecord, Fetcher

POLL_BYTES = 16 << 20
"""A poll takes no more records once it has this many bytes of them: sixteen of the largest events by default."""
POLL_S = 1.0
"""A poll takes no more records once it has parsed for this long."""
RECORD_BYTES, HEADER_BYTES = 64, 128
"""What a record and a header take in memory besides their bytes, rounded."""


@dataclass
class PollBudget:
    """What is left of one poll."""

    bytes_left: int = POLL_BYTES
    deadline: float = field(default_factory=lambda: time.monotonic() + POLL_S)

    def take(self, record: ConsumerRecord) -> None:
        """Count a record."""
        sizes = record.serialized_key_size, record.serialized_value_size, record.serialized_header_size
        self.bytes_left -= sum(sizes) + RECORD_BYTES + HEADER_BYTES * len(record.headers)

    @property
    def is_spent(self) -> bool:
        """Whether the poll has to return."""
        return self.bytes_left <= 0 or time.monotonic() > self.deadline


def bound_polls() -> None:
    """Make every consumer that this process creates from now on bound its polls by `PollBudget`."""
    group.Fetcher = _BoundedFetcher


class _BoundedFetcher(Fetcher):  # type: ignore[misc]
    """Ends a poll when its budget is spent. A poll has at least one record if there is any."""

    _budget: PollBudget

    class PartitionRecords(Fetcher.PartitionRecords):  # type: ignore[misc]
        """The records of one fetched partition."""

        budget: PollBudget

        def take(self, n: int | None = None) -> list[ConsumerRecord]:
            """Up to n records, fewer if the budget is spent. An error is raised once the records before it are out."""
            self._maybe_raise_next_inline_exception()
            records: list[ConsumerRecord] = []
            try:
                for record in islice(self.record_iterator, n):
                    records.append(record)
                    self.budget.take(record)
                    if self.budget.is_spent:
                        break
            except Exception as error:
                if not records:
                    raise
                self._next_inline_exception = error
            return records

    def fetched_records(self, *arguments: Any, **options: Any) -> Any:
        self._budget = PollBudget()
        return super().fetched_records(*arguments, **options)

    def _append(self, drained: Any, part: Any, max_records: int, update_offsets: bool) -> int:
        """The number of records taken; all that the poll may still take once the budget is spent."""
        if part:
            part.budget = self._budget
        taken: int = super()._append(drained, part, max_records, update_offsets)
        return max_records if self._budget.is_spent and taken else taken
