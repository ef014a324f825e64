"""A seed model's lists without the items that the serving policy bars."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.data.sequences import Contexts
from models.seeds.seed_model import SeedModel, TopK


def allowed_top_k(model: SeedModel, contexts: Contexts, excluded: NDArray[np.int32], k: int) -> TopK:
    """The k best items that are not excluded [B, h], -1 padded, at each of B prediction points."""
    top_k = model.predict_top_k(contexts, k + excluded.shape[1])
    items = top_k.items
    allowed = (items >= 0) & ~(items[:, :, None] == excluded[:, None, :]).any(axis=2)
    allowed_first = np.argsort(~allowed, axis=1, kind="stable")[:, :k]
    listed = np.where(
        np.take_along_axis(allowed, allowed_first, axis=1), np.take_along_axis(items, allowed_first, axis=1), -1
    )
    padded = np.full((len(items), k), -1, np.int32)
    padded[:, : listed.shape[1]] = listed
    return TopK(padded, top_k.confidence)
