from __future__ import annotations

import numpy as np
import pytest

from anabranch.co_visit.table import CoVisitTable
from consumers.neighbours.published_rows import PublishedRows


def row(
    *neighbours: tuple[int, float], item: int = 3, popularity: float = 0.1, repeat_rate: float = 0.2
) -> CoVisitTable:
    padded = [*neighbours, *[(-1, 0.0)] * (4 - len(neighbours))]
    return CoVisitTable(
        item=np.array([item], np.int32),
        neighbours=np.array([[neighbour for neighbour, _ in padded]], np.int32),
        share=np.array([[share for _, share in padded]], np.float32),
        popularity=np.array([popularity], np.float32),
        first_seen=np.zeros(1, np.int64),
        repeat_rate=np.array([repeat_rate], np.float32),
    )


PUBLISHED = row((7, 0.3), (8, 0.2))


@pytest.fixture
def rows() -> PublishedRows:
    rows = PublishedRows(4)
    rows.differing(PUBLISHED)
    rows.remember(PUBLISHED)
    return rows


def test_a_row_that_was_never_published_differs(rows: PublishedRows) -> None:
    assert rows.differing(row(item=5000)).all()


@pytest.mark.parametrize(
    "now",
    [
        pytest.param(row((7, 0.3), (8, 0.15)), id="a quarter less of a neighbour"),
        pytest.param(row((7, 0.3), (9, 0.2)), id="another neighbour"),
        pytest.param(row((7, 0.3), (8, 0.2), (9, 0.1)), id="a neighbour more"),
        pytest.param(row((7, 0.3), (9, 0.2), (8, 0.2)), id="a newcomer in the first half"),
        pytest.param(row((7, 0.3)), id="a neighbour less"),
        pytest.param(row(), id="none left"),
        pytest.param(row((7, 0.3), (8, 0.2), popularity=0.05), id="half as popular"),
        pytest.param(row((7, 0.3), (8, 0.2), repeat_rate=0.4), id="twice as often bought again"),
    ],
)
def test_a_row_differs_that_says_something_else(rows: PublishedRows, now: CoVisitTable) -> None:
    assert rows.differing(now).all()


@pytest.mark.parametrize(
    "now",
    [
        pytest.param(PUBLISHED, id="the same"),
        pytest.param(row((7, 0.302), (8, 0.201)), id="nearly the same"),
        pytest.param(row((7, 0.3), (8, 0.2), popularity=0.105), id="a little more popular"),
        pytest.param(row((7, 0.3), (8, 0.2), (9, 0.01)), id="a newcomer of little weight in the second half"),
    ],
)
def test_a_row_does_not_differ_that_says_nearly_the_same(rows: PublishedRows, now: CoVisitTable) -> None:
    assert not rows.differing(now).any()


def test_a_row_that_was_looked_at_and_not_published_still_differs(rows: PublishedRows) -> None:
    rows.differing(row(item=5000))
    assert rows.differing(row(item=5000)).all()


def test_rows_of_items_that_come_in_any_order_are_told_apart(rows: PublishedRows) -> None:
    items = [9_000, 1, 4_000]
    for item in items:
        rows.remember(row((item + 1, 0.5), item=item))
    assert not any(rows.differing(row((item + 1, 0.5), item=item)).any() for item in items)
    assert not rows.differing(PUBLISHED).any()


def test_neighbours_that_change_places_differ_by_what_they_weigh(rows: PublishedRows) -> None:
    close = row((7, 0.25), (8, 0.249))
    rows.remember(close)
    assert not rows.differing(row((8, 0.25), (7, 0.249))).any()
