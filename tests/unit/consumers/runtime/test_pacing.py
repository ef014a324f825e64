"""A batch that took too long is followed by smaller ones, until they are in time again."""

from __future__ import annotations

from consumers.runtime.pacing import BATCH_S, BatchLimit


def test_batches_in_time_may_have_all_records_that_are_allowed() -> None:
    limit = BatchLimit(2048)
    limit.took(2048, BATCH_S)
    assert limit.records == 2048


def test_after_a_slow_batch_the_next_has_as_many_records_as_would_have_been_in_time() -> None:
    limit = BatchLimit(2048)
    limit.took(300, 10 * BATCH_S)
    assert limit.records == 30


def test_a_record_that_is_too_slow_by_itself_is_still_processed_alone() -> None:
    limit = BatchLimit(2048)
    limit.took(2, 1000 * BATCH_S)
    assert limit.records == 1


def test_the_limit_doubles_with_each_batch_in_time() -> None:
    limit = BatchLimit(5)
    limit.took(5, 100 * BATCH_S)
    limits = []
    for _ in range(4):
        limit.took(1, 0.1)
        limits.append(limit.records)
    assert limits == [2, 4, 5, 5]
