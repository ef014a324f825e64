"""What the release follower hands to the main loop, to be applied at a batch boundary, in order."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from anabranch.errors import AnabranchError
from anabranch.messages import UNKNOWN_REPEAT_RATE
from anabranch.ranking.pipeline.servable import LiveRelease
from anabranch.ranking.retrieval.co_visit_table import NeighbourTable
from anabranch.ranking.retrieval.item_index import ItemIndex
from anabranch.ranking.types import Rows, Vectors


class UnreadableVector(AnabranchError):
    """Item vectors that the indexer cannot have written: nobody knows which of them are right."""


@dataclass(frozen=True)
class Adopt:
    """Rank by this release from now on: encoder, order and index as one."""

    live: LiveRelease


@dataclass(frozen=True)
class VectorChange:
    """Items of the live release that came, changed or went."""

    release: str
    rows: Rows  # [n]
    vectors: Vectors  # [n, d]
    available: NDArray[np.bool_]  # [n]
    removed: Rows  # [m]

    def apply(self, index: ItemIndex) -> None:
        """Enter the changes into the index of their release. Raises `UnreadableVector` for one of other dims."""
        if len(self.rows) and self.vectors.shape[1] != index.dims:
            raise UnreadableVector(
                f"release {self.release} has {index.dims} dims, and item vectors of {self.vectors.shape[1]}. Only the "
                "indexer should write them"
            )
        index.upsert(self.rows, self.vectors, self.available)
        if len(self.removed):
            index.remove(self.removed)


@dataclass(frozen=True)
class NeighbourRow:
    """One item's row of the co-visit table; None for `rows` forgets the item."""

    row: int
    rows: Rows | None = None
    weights: NDArray[np.float32] | None = None
    popularity: float = 0.0
    first_seen: int = -1
    repeat_rate: float = UNKNOWN_REPEAT_RATE

    def apply(self, table: NeighbourTable) -> None:
        """Enter the row into the table."""
        if self.rows is None or self.weights is None:
            table.remove(self.row)
        else:
            table.set(self.row, self.rows, self.weights, self.popularity, self.first_seen, self.repeat_rate)


@dataclass(frozen=True)
class NeighbourChange:
    """Rows of the co-visit table that came, changed or went."""

    entries: list[NeighbourRow]

    def apply(self, table: NeighbourTable) -> None:
        """Enter the rows into the table."""
        for entry in self.entries:
            entry.apply(table)


Change = Adopt | VectorChange | NeighbourChange
