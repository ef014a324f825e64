"""Which items read alike: what a co-visit table assumes before anybody has visited them together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from anabranch.ranking.retrieval.ann_index import Base
from models.networks.whitening import white_directions
from models.seeds.seed import Vectors

DIMS = 256
"""Leading directions of the whitened text vectors that are compared."""
SHARPNESS = 3
"""Power of the cosine by which a text neighbour counts: the nearest few say the most."""


@dataclass(frozen=True)
class TextNeighbours:
    """Of C items those whose texts are nearest, and the part each has of a whole that is shared out among them."""

    item: NDArray[np.int32]  # [C, width], nearest first, -1 padded
    share: NDArray[np.float32]  # [C, width], a row sums to 1, or to 0 where the item has no text

    @classmethod
    def of(cls, text_vectors: Vectors, width: int = 20) -> Self:
        """Find them by the cosine of whitened text vectors [C, T]. A vector of zeros is no text.

        Su et al., Whitening Sentence Representations for Better Semantics and Faster Retrieval, 2021.
        """
        item = np.full((len(text_vectors), width), -1, np.int32)
        share = np.zeros((len(text_vectors), width), np.float32)
        told = np.flatnonzero(text_vectors.any(axis=1)).astype(np.int32)
        if len(told) > 1:
            vectors = white_directions(text_vectors[told], DIMS)
            base = Base.of(vectors, np.arange(len(told), dtype=np.int32))
            place, cosine = base.search(vectors, min(width + 1, len(told)), np.ones(len(told), np.bool_))
            others = (place != np.arange(len(told))[:, None]) & (place >= 0) & (cosine > 0)
            first = np.argsort(~others, axis=1, kind="stable")[:, :width]  # the item itself goes last
            place, cosine, others = (np.take_along_axis(one, first, axis=1) for one in (place, cosine, others))
            weight = np.where(others, cosine, 0) ** SHARPNESS
            item[told, : place.shape[1]] = np.where(others, told[place], -1)
            share[told, : place.shape[1]] = weight / np.maximum(weight.sum(axis=1, keepdims=True), 1e-9)
        return cls(item, share)

    def of_item(self, item: int) -> dict[int, float]:
        """Text neighbours of one item, and their parts; none for an item beyond the catalogue."""
        if item >= len(self.item):
            return {}
        present = self.share[item] > 0
        return dict(zip(self.item[item][present].tolist(), self.share[item][present].tolist(), strict=True))
