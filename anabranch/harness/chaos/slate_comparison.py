"""Whether a published slate is the one of the reference run."""

from __future__ import annotations

from collections.abc import Sequence

SAME_SLATE_SHARE = 0.9
MAX_SCORE_DIFFERENCE = 1e-3
"""Slates are equal if 90 % of the reference's scores have a score within 0.001. Items are not compared: of items with
equal vectors either may be shown. And the last bits of a score depend on how events fell into batches, which may swap
one candidate at the edge of the retrieved set and so shift those behind it."""


def is_same_slate(scores: Sequence[float], reference: Sequence[float]) -> bool:
    """Compare the scores of two slates, both best first."""
    return len(scores) == len(reference) and count_score_pairs(scores, reference) >= len(reference) * SAME_SLATE_SHARE


def count_score_pairs(scores: Sequence[float], others: Sequence[float]) -> int:
    """How many scores of two descending lists can be paired, each once, with `MAX_SCORE_DIFFERENCE` at most."""
    i = j = pairs = 0
    while i < len(scores) and j < len(others):
        difference = scores[i] - others[j]
        pairs += abs(difference) < MAX_SCORE_DIFFERENCE
        i += difference > -MAX_SCORE_DIFFERENCE
        j += difference < MAX_SCORE_DIFFERENCE
    return pairs
