"""Columns of the co-visit table grow with what is published."""

from __future__ import annotations

import numpy as np

from anabranch.ranking.retrieval.co_visit_table import CoVisitRows


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
