"""Retrieval for queries of whose user some items do not count: as many more are fetched, so that enough remain."""

from __future__ import annotations

import numpy as np

from anabranch.ranking.item_classes import IN_SESSION, SEEN
from anabranch.ranking.policy import Policy
from anabranch.ranking.retrieval.item_index import ItemIndex
from anabranch.ranking.types import Counts, Rows
from anabranch.ranking.user_state.snapshot import UserSnapshots

SURPLUS = np.array([0, *(16 * 4**level for level in range(6))])
"""How many more items are fetched, in steps: queries of one step share a search. A user with few items must not pay for
one with a thousand in the same batch, and many small searches cost more than a few somewhat too wide."""

MOST_HIDDEN_SHARE = 0.5
"""Reckoned with: of a catalogue of which more is hidden, fewer candidates are retrieved."""


def retrieve(index: ItemIndex, queries: UserSnapshots, policy: Policy) -> Rows:
    """The nearest items of each of B queries [B, K], best first, -1 padded.

    If the index has that many, at least `retrieval_k` of a query's items are of the policy's `retrieval_classes`. Of
    items that rules hide, twice as many are reckoned with as their share of the catalogue would bring.
    """
    surplus = SURPLUS[np.searchsorted(SURPLUS, not_counted(queries, policy) + _hidden(policy))]  # [B]
    most = int(surplus.max(initial=0))
    if policy.retrieval_k == 0 or most == 0:
        return index.search(queries.vector, policy.retrieval_k)[0]
    retrieved = np.full((len(surplus), policy.retrieval_k + most), -1, np.int32)
    for step in np.unique(surplus).tolist():
        width, of_step = policy.retrieval_k + step, np.flatnonzero(surplus == step)
        retrieved[of_step, :width] = index.search(queries.vector[of_step], width)[0]
    return retrieved


def _hidden(policy: Policy) -> int:
    """How many more items to fetch for those that rules hide everywhere."""
    share = min(policy.rules.hidden_share, MOST_HIDDEN_SHARE)
    return int(np.ceil(2 * policy.retrieval_k * share / (1 - share)))


def not_counted(queries: UserSnapshots, policy: Policy) -> Counts:
    """How many items `retrieval_k` does not count for each query [B], at most: an item of two events is two here."""
    counted = policy.retrieval_classes
    disliked: Counts = (queries.disliked_item >= 0).sum(axis=1, dtype=np.int32)
    if not counted[SEEN]:
        in_history: Counts = (queries.recent >= 0).sum(axis=1, dtype=np.int32)
        return disliked + in_history + queries.long_term_size
    if not counted[IN_SESSION]:
        return disliked + queries.session_length
    return disliked
