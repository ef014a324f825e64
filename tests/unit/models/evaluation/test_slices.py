from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from models.data.event_log import NONE, EventColumns, EventLog
from models.data.event_traits import COLD_INTERACTIONS
from models.evaluation.slices import LARGEST_DOMAINS, Mask, cut_slices, new_users

VIEW, CART, PURCHASE, SEARCH = range(4)


def log_of(items: list[int], types: list[int] | None = None, known: int = 0) -> EventLog:
    """One event a minute, all of one user."""
    events = len(items)
    return EventLog.from_columns(
        EventColumns(
            user=np.zeros(events, np.int64),
            item=np.array(items),
            type=np.full(events, PURCHASE) if types is None else np.array(types),
            ts=np.arange(events) * 60_000,
            session=np.full(events, NONE),
        ),
        user_ids=("u",),
        item_ids=tuple(f"i{number}" for number in range(max(*items, known) + 1)),
    )


def slices_of(log: EventLog, start: int, domains: tuple[str | None, ...] = ()) -> dict[str, Mask]:
    rows = np.arange(start, len(log))
    return cut_slices(log, start, rows, np.zeros(len(rows), np.bool_), domains)


def test_every_event_type_there_is_a_task() -> None:
    slices = slices_of(log_of([0, 0, 1, 0], [VIEW, VIEW, CART, VIEW]), 1)
    assert [name for name in slices if name.startswith("task:")] == ["task:view", "task:cart"]
    assert slices["task:view"].tolist() == [True, False, True]
    assert slices["task:cart"].tolist() == [False, True, False]


def test_an_item_is_cold_up_to_five_events_before_the_evaluation() -> None:
    before = [0] * COLD_INTERACTIONS + [1] * (COLD_INTERACTIONS + 1)
    assert COLD_INTERACTIONS == 5
    assert slices_of(log_of([*before, 0, 1, 2]), len(before))["cold_items"].tolist() == [True, False, True]


def test_events_of_the_evaluation_make_no_item_warm() -> None:
    assert slices_of(log_of([0] * 20), 1)["cold_items"].all()


def test_searches_before_the_evaluation_count_for_no_item() -> None:
    log = log_of([0] * 5 + [NONE] * 5 + [0], [PURCHASE] * 5 + [SEARCH] * 5 + [PURCHASE])
    assert slices_of(log, 10)["cold_items"].tolist() == [True]


def test_only_the_given_rows_are_divided() -> None:
    log = log_of([0, 1, 1, 0, 1])
    slices = cut_slices(log, 1, np.array([2, 3]), np.array([True, False]), ["garden", "kitchen"])
    assert slices["domain:kitchen"].tolist() == [True, False]
    assert slices["repeat"].tolist() == [True, False]
    assert slices["new_to_user"].tolist() == [False, True]


def test_a_domain_is_the_items_and_items_without_one_belong_to_none() -> None:
    slices = slices_of(log_of([0, 0, 1, 2, 3, 9]), 1, ("garden", None, "kitchen", "garden"))
    assert slices["domain:garden"].tolist() == [True, False, False, True, False]
    assert slices["domain:kitchen"].tolist() == [False, False, True, False, False]
    assert "other_domains" not in slices


def test_a_domain_without_events_is_no_slice() -> None:
    assert "domain:kitchen" not in slices_of(log_of([0, 0], known=1), 1, ("garden", "kitchen"))


@pytest.mark.parametrize("domains", [(), (None, None)])
def test_a_catalogue_without_domains_has_no_domain_slices(domains: tuple[None, ...]) -> None:
    assert not [name for name in slices_of(log_of([0, 1]), 0, domains) if "domain" in name]


def test_the_smallest_of_many_domains_are_taken_together() -> None:
    """The larger the number of the domain, the more events."""
    names = tuple(f"d{number}" for number in range(LARGEST_DOMAINS + 2))
    log = log_of([item for item in range(len(names)) for _ in range(item + 1)])
    slices = slices_of(log, 0, names)
    assert len([name for name in slices if name.startswith("domain:")]) == LARGEST_DOMAINS
    assert not {"domain:d0", "domain:d1"} & set(slices)
    np.testing.assert_array_equal(slices["other_domains"], log.item < 2)


def test_new_users_are_divided_by_the_events_that_they_have_had() -> None:
    """Ann has eight events, Ben two between hers, the second after a search."""
    log = log_of([0, 1, 2, NONE, 4, 5, 6, 7, 8, 9])
    log = replace(log, user=np.array([0, 1, 0, 1, 1, 0, 0, 0, 0, 0], np.int32), user_ids=("ann", "ben"))
    slices = {name: np.flatnonzero(mask).tolist() for name, mask in new_users(log, np.arange(len(log))).items()}
    assert slices == {"after_1_event": [2, 3], "after_2_events": [4, 5], "after_3_to_5_events": [6, 7, 8]}


def test_without_new_users_there_are_no_slices_of_them() -> None:
    assert new_users(log_of([0] * 20), np.arange(6, 20)) == {}
