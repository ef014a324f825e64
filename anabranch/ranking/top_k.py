"""Insertion into a list of the k best, for the item index and for slates."""

from __future__ import annotations

from anabranch.ranking.jit import compiled_inline
from anabranch.ranking.types import Positions, Rows, Vectors


@compiled_inline
def insert_best_first(
    scores: Vectors,  # [B, k] best first, changed in place, as are the indices
    indices: Rows | Positions,  # [B, k]
    row: int,
    length: int,  # entries of the row that are filled; of k filled ones the last is dropped
    score: float,
    index: int,
) -> None:
    """Insert an entry into a row of at most k, after all entries of equal score."""
    position = min(length, scores.shape[1] - 1)
    while position > 0 and score > scores[row, position - 1]:
        scores[row, position], indices[row, position] = scores[row, position - 1], indices[row, position - 1]
        position -= 1
    scores[row, position], indices[row, position] = score, index
