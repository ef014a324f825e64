"""A poll ends when it has taken its bytes or its time, and the next one goes on behind it."""

from __future__ import annotations

from typing import Any

import pytest
from kafka import TopicPartition
from kafka.consumer.fetcher import ConsumerRecord, Fetcher
from kafka.record.memory_records import MemoryRecords, MemoryRecordsBuilder

from anabranch.kafka import poll_bounds
from anabranch.kafka.poll_bounds import PollBudget, _BoundedFetcher

PARTITION = TopicPartition("events", 0)


class OneFetch(_BoundedFetcher):
    """A fetcher that has received one answer with these values, and asks no broker."""

    def __init__(self, values: list[bytes], headers: list[tuple[str, bytes]] | None = None) -> None:
        builder = MemoryRecordsBuilder(magic=2, compression_type=4, batch_size=1 << 30)
        for value in values:
            builder.append(timestamp=1, key=None, value=value, headers=headers or [])
        builder.close()
        self._part = self.PartitionRecords(0, PARTITION, MemoryRecords(bytes(builder.buffer())))

    def poll(self, max_records: int = 1000) -> list[ConsumerRecord]:
        self._budget = PollBudget()
        self._part.budget = self._budget
        taken: list[ConsumerRecord] = self._part.take(max_records)
        return taken


def test_a_poll_takes_no_more_records_than_it_has_bytes_for_and_loses_none() -> None:
    fetcher = OneFetch([b"x" * (1 << 20)] * 40)
    polls = [fetcher.poll() for _ in range(3)]
    assert [len(records) for records in polls] == [16, 16, 8]
    assert [record.offset for records in polls for record in records] == list(range(40))


def test_a_record_larger_than_the_whole_budget_is_taken_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PollBudget, "__init__", lambda budget: vars(budget).update(bytes_left=10, deadline=1e18))
    assert [len(OneFetch([b"x" * 1000] * 3).poll()) for _ in range(3)] == [1, 1, 1]


def test_headers_count_for_the_memory_that_they_take() -> None:
    fetcher = OneFetch([b"x"] * 40, headers=[("", b"")] * 10_000)
    assert len(fetcher.poll()) == -(-poll_bounds.POLL_BYTES // (10_000 * poll_bounds.HEADER_BYTES + 64))


def test_a_poll_ends_when_its_time_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = iter(range(1000))
    monkeypatch.setattr(poll_bounds.time, "monotonic", lambda: next(seconds) / 4)
    assert len(OneFetch([b"x"] * 40).poll()) == 5


def test_max_records_still_holds() -> None:
    assert len(OneFetch([b"x"] * 40).poll(7)) == 7


def test_records_before_a_damaged_one_are_taken_before_its_error_is_raised() -> None:
    fetcher = OneFetch([b"x"] * 3)
    records = fetcher._part.record_iterator

    def damaged() -> Any:
        yield next(records)
        raise ValueError("damaged")

    fetcher._part.record_iterator = damaged()
    assert len(fetcher.poll()) == 1
    with pytest.raises(ValueError, match="damaged"):
        fetcher.poll()


def test_a_spent_budget_ends_the_poll_of_the_other_partitions_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Fetcher, "_append", lambda *arguments: 3)
    fetcher = OneFetch([])
    fetcher._budget = PollBudget(bytes_left=1)
    assert fetcher._append(None, None, 100, True) == 3
    fetcher._budget = PollBudget(bytes_left=0)
    assert fetcher._append(None, None, 100, True) == 100


def test_every_consumer_of_this_process_has_bounded_polls() -> None:
    from kafka.consumer import group

    poll_bounds.bound_polls()
    assert group.Fetcher is _BoundedFetcher
