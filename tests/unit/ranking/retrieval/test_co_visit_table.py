"""Columns of the co-visit table grow with what is published."""

from __future__ import annotations

import numpy as np

from anabranch.ranking.retrieval.co_visit_table import CoVisitRows

HASHES = np.random.default_rng(1).integers(2**63, size=40).astype(np.uint64)
"""Of the ids of forty items, by row."""


def with_rows(table: CoVisitRows) -> CoVisitRows:
    """Row 0 has two neighbours, row 1 has three."""
    for row, neighbours in enumerate(([5, 6], [7, 8, 9])):
        shares = np.linspace(0.5, 0.1, len(neighbours), dtype=np.float32)
        table.set(row, np.array(neighbours, np.int32), shares, popularity=0.1, first_seen=1, repeat_rate=0.2)
    return table


def test_a_longer_row_widens_the_table_and_keeps_the_rows_before_it() -> None:
    table = with_rows(CoVisitRows())
    assert table.width == 3
    assert table.columns.rows[:2].tolist() == [[5, 6, -1], [7, 8, 9]]
    assert table.columns.weights[0].tolist() == [np.float32(0.5), np.float32(0.1), 0]


def test_a_limit_drops_the_weakest_neighbours() -> None:
    table = with_rows(CoVisitRows(max_width=2))
    assert table.columns.rows[:2].tolist() == [[5, 6], [7, 8]]


def set_popularity(table: CoVisitRows, row: int, popularity: float) -> None:
    table.set(row, np.empty(0, np.int32), np.empty(0, np.float32), popularity, first_seen=1, repeat_rate=0.2)


def test_the_most_popular_items_are_those_of_the_table_after_every_change() -> None:
    random, table, popularity = np.random.default_rng(0), CoVisitRows(max_width=1), {}
    for row in random.integers(0, 40, 500).tolist():
        popularity[row] = round(float(random.random()), 1) * (random.random() < 0.8)  # ties, and some without any
        set_popularity(table, row, popularity[row])
        if random.random() < 0.1:
            table.remove(row)
            popularity[row] = 0.0
        for k in (3, 10, 0):
            best = sorted(
                (row for row in popularity if popularity[row]), key=lambda row: (-popularity[row], HASHES[row])
            )
            assert table.most_popular(k, HASHES).tolist() == best[:k]


def test_no_item_is_popular_without_events() -> None:
    table = CoVisitRows()
    set_popularity(table, 7, 0.0)
    assert table.most_popular(5, HASHES).tolist() == []
