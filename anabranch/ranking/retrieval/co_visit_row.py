"""A message of topic `neighbours` as a row of the ranker's co-visit table."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from anabranch.messages import UNKNOWN_REPEAT_RATE, Neighbours
from anabranch.ranking.retrieval.co_visit_table import CoVisitRows
from anabranch.ranking.types import Rows
from anabranch.ranking.vocabulary import ItemVocabulary


@dataclass(frozen=True)
class CoVisitRow:
    """One item's row of the co-visit table; with `rows` None, the item is removed."""

    row: int
    rows: Rows | None = None
    weights: NDArray[np.float32] | None = None
    popularity: float = 0.0
    first_seen: int = -1
    repeat_rate: float = UNKNOWN_REPEAT_RATE

    def apply(self, table: CoVisitRows) -> None:
        """Set or remove the row."""
        if self.rows is None or self.weights is None:
            table.remove(self.row)
        else:
            table.set(self.row, self.rows, self.weights, self.popularity, self.first_seen, self.repeat_rate)


def co_visit_row(item_id: str, message: Neighbours | None, item_ids: ItemVocabulary) -> CoVisitRow | None:
    """A message of `neighbours` as a row of the table; None for an item whose id collides with another one's."""
    if not item_ids.accepts(item_id):
        return None
    if message is None:
        return CoVisitRow(item_ids.row(item_id))
    neighbours = [neighbour for neighbour in message.neighbours if item_ids.accepts(neighbour.item_id)]
    return CoVisitRow(
        row=item_ids.row(item_id),
        rows=item_ids.rows(neighbour.item_id for neighbour in neighbours),
        weights=np.array([neighbour.score for neighbour in neighbours], np.float32),
        popularity=message.popularity,
        first_seen=message.first_seen,
        repeat_rate=message.repeat_rate,
    )
