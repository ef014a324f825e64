"""Items with similar texts: the co-visit model's prior for items that few users have visited."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from anabranch.co_visit.text_prior import NO_TEXTS, TextPrior
from anabranch.co_visit_rule import CoVisitRule
from anabranch.ranking.retrieval.ann_index import AnnIndex
from models.networks.whitening import whitened_unit_vectors

DIMS = 256
"""Whitened text vectors are compared on this many leading directions."""
SHARPNESS = 3
"""A neighbour's weight is its cosine to this power, so that the nearest few dominate."""


def text_neighbours(rule: CoVisitRule, text_vectors: NDArray[np.float32] | None) -> TextPrior:
    """The neighbours by text vectors [C, T] that co-visits have by a rule: none without its `text_prior`, or without
    vectors. It takes seconds for 100,000 items."""
    return NO_TEXTS if text_vectors is None or not rule.text_prior else text_prior(text_vectors)


def text_prior(text_vectors: NDArray[np.float32], width: int = 20) -> TextPrior:
    """Neighbours by the cosine of whitened text vectors [C, T]. A vector of zeros means that there is no text.

    Su et al., Whitening Sentence Representations for Better Semantics and Faster Retrieval, 2021.
    """
    item = np.full((len(text_vectors), width), -1, np.int32)
    share = np.zeros((len(text_vectors), width), np.float32)
    with_text = np.flatnonzero(text_vectors.any(axis=1)).astype(np.int32)
    if len(with_text) > 1:
        vectors = whitened_unit_vectors(text_vectors[with_text], DIMS)
        base = AnnIndex.build(vectors, np.arange(len(with_text), dtype=np.int32))
        row, cosine = base.search(vectors, min(width + 1, len(with_text)), np.ones(len(with_text), np.bool_))
        is_neighbour = (row != np.arange(len(with_text))[:, None]) & (row >= 0) & (cosine > 0)
        order = np.argsort(~is_neighbour, axis=1, kind="stable")[:, :width]  # puts the item itself last
        row, cosine, is_neighbour = (np.take_along_axis(part, order, axis=1) for part in (row, cosine, is_neighbour))
        weight = np.where(is_neighbour, cosine, 0) ** SHARPNESS
        item[with_text, : row.shape[1]] = np.where(is_neighbour, with_text[row], -1)
        share[with_text, : row.shape[1]] = weight / np.maximum(weight.sum(axis=1, keepdims=True), 1e-9)
    return TextPrior(item, share)
