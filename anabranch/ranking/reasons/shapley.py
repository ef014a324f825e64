"""Shapley values: what each of a few groups of features contributes to a score, so that all of it adds up.

The contribution of a group is the mean, over all orders in which groups become known, of what the score gains when it
does (Shapley, 1953). What is not known yet is as among the other candidates (Lundberg & Lee, 2017, with features drawn
from a background by intervention).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import combinations
from math import comb
from typing import NamedTuple

import numpy as np

from anabranch.ranking.types import Floats, Positions

MOST_BACKGROUND = 64
"""Rows of the background that are used, evenly spaced: every item is scored with each of them, 2 ** G times."""


class Contributions(NamedTuple):
    """What the scores of k items are made of: `base` plus the sum of a row is the item's score, but for rounding."""

    base: float
    """The mean score of the background."""
    by_group: Floats
    """[k, G]"""


def contributions(
    score: Callable[[Floats], Floats], features: Floats, background: Floats, groups: Sequence[Positions]
) -> Contributions:
    """The contributions to the scores of `features` [k, F] against a background [N, F] of at least one row.

    `score` takes features [n, F] to scores [n]. `groups` are the columns of each group; together they are all columns.
    """
    step = -(-len(background) // MOST_BACKGROUND)
    background = background[::step]
    means = {known: _mean_scores(score, features, background, [groups[g] for g in known]) for known in _subsets(groups)}
    n = len(groups)
    by_group = np.zeros((len(features), n))
    for known, mean in means.items():
        for g in set(range(n)) - set(known):
            gain = means[tuple(sorted((*known, g)))] - mean
            by_group[:, g] += gain / (n * comb(n - 1, len(known)))
    return Contributions(float(score(background).mean()), by_group.astype(np.float32))


def _subsets(groups: Sequence[Positions]) -> Iterator[tuple[int, ...]]:
    for size in range(len(groups) + 1):
        yield from combinations(range(len(groups)), size)


def _mean_scores(
    score: Callable[[Floats], Floats], features: Floats, background: Floats, known: Sequence[Positions]
) -> Floats:
    """The mean score [k] of each item over the background, with the columns `known` as the item has them."""
    k, n = len(features), len(background)
    mixed = np.tile(background, (k, 1, 1))
    for columns in known:
        mixed[:, :, columns] = features[:, None, columns]
    scores = score(mixed.reshape(k * n, background.shape[1])).astype(np.float64)
    mean: Floats = scores.reshape(k, n).mean(axis=1)
    return mean
