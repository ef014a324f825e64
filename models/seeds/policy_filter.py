"""A seed model's lists, of the items that the serving policy lets a placement show."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.data.sequences import Contexts
from models.seeds.seed_model import SeedModel, TopK

AMONG_BEST = 2000
"""Best items of a seed model in which a few that may be shown are looked for: it predicts lists, not single items."""


def allowed_top_k(
    model: SeedModel, contexts: Contexts, excluded: NDArray[np.int32], k: int, among: NDArray[np.int32] | None = None
) -> TopK:
    """The k best items that are not excluded [B, h], -1 padded, at each of B prediction points.

    With `among` [B, w], -1 padded, no others than these are listed, as far as they are `AMONG_BEST` to the model.
    """
    top_k = model.predict_top_k(contexts, k + excluded.shape[1] if among is None else AMONG_BEST)
    items = top_k.items
    allowed = (items >= 0) & ~_listed(items, excluded)
    if among is not None:
        allowed &= _listed(items, among)
    allowed_first = np.argsort(~allowed, axis=1, kind="stable")[:, :k]
    listed = np.where(
        np.take_along_axis(allowed, allowed_first, axis=1), np.take_along_axis(items, allowed_first, axis=1), -1
    )
    padded = np.full((len(items), k), -1, np.int32)
    padded[:, : listed.shape[1]] = listed
    return TopK(padded, top_k.confidence)


def _listed(items: NDArray[np.int32], listed: NDArray[np.int32]) -> NDArray[np.bool_]:
    """Which of the items [B, k] are in the list [B, h] of their row."""
    found: NDArray[np.bool_] = (items[:, :, None] == listed[:, None, :]).any(axis=2)
    return found
