"""A seed model's lists without the items that the serving policy bars."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from anabranch.ranking.policy import Policy
from models.data.event_log import NONE
from models.data.sequences import Contexts, Positions, Sequences
from models.seeds.seed_model import SeedModel, TopK


def barred_items(sequences: Sequences, rows: Positions, contexts: Contexts, policy: Policy) -> NDArray[np.int32]:
    """The recent items [B, h] that the policy bars right after the events at rows [B], padded with -1.

    `contexts` are those of the rows. Barred are the items of the current session, or all recent items if the policy
    excludes everything seen.
    """
    recent = contexts.recent
    if policy.excludes(in_session=False):
        return recent
    if not policy.excludes(in_session=True):
        return recent[:, :0]
    barred = np.where(sequences.in_session(rows, recent.shape[1]), recent, NONE).astype(np.int32)
    longest = int((barred != NONE).sum(axis=1).max(initial=0))  # a session is the newest part of the history
    return barred[:, :longest]


def allowed_top_k(model: SeedModel, contexts: Contexts, barred: NDArray[np.int32], k: int) -> TopK:
    """The k best items that are not barred [B, h], at each of B prediction points."""
    top_k = model.predict_top_k(contexts, k + barred.shape[1])
    items = top_k.items
    allowed = (items >= 0) & ~(items[:, :, None] == barred[:, None, :]).any(axis=2)
    allowed_first = np.argsort(~allowed, axis=1, kind="stable")[:, :k]
    listed = np.where(
        np.take_along_axis(allowed, allowed_first, axis=1), np.take_along_axis(items, allowed_first, axis=1), -1
    )
    padded = np.full((len(items), k), -1, np.int32)
    padded[:, : listed.shape[1]] = listed
    return TopK(padded, top_k.confidence)
