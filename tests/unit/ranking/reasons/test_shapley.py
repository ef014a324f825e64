"""Shapley values, against what is known of them."""

from __future__ import annotations

import numpy as np

from anabranch.ranking.reasons.shapley import MOST_BACKGROUND, contributions
from anabranch.ranking.types import Floats

GROUPS = [np.array([0]), np.array([1, 2]), np.array([3])]


def rows(n: int, seed: int = 0) -> Floats:
    return np.random.default_rng(seed).normal(size=(n, 4)).astype(np.float32)


def curved(features: Floats) -> Floats:
    return np.tanh(features[:, 0] * features[:, 1]) + features[:, 2] ** 2 * features[:, 3]


def test_base_and_contributions_add_up_to_the_score() -> None:
    chosen, background = rows(5), rows(30, seed=1)
    made_of = contributions(curved, chosen, background, GROUPS)
    np.testing.assert_allclose(made_of.base, curved(background).mean(), rtol=1e-5)
    np.testing.assert_allclose(made_of.base + made_of.by_group.sum(axis=1), curved(chosen), rtol=1e-4, atol=1e-5)


def test_a_sum_is_divided_among_its_terms() -> None:
    def linear(features: Floats) -> Floats:
        return features @ np.array([1, 2, 3, 4], np.float32)

    chosen, background = rows(5), rows(30, seed=1)
    made_of = contributions(linear, chosen, background, GROUPS)
    terms = (chosen - background.mean(axis=0)) * [1, 2, 3, 4]
    np.testing.assert_allclose(made_of.by_group, np.stack([terms[:, g].sum(axis=1) for g in GROUPS], 1), atol=1e-5)


def test_what_makes_no_difference_contributes_nothing_and_equals_contribute_the_same() -> None:
    def product(features: Floats) -> Floats:
        return features[:, 0] * features[:, 3]

    made_of = contributions(product, np.ones((1, 4), np.float32), np.zeros((1, 4), np.float32), GROUPS)
    np.testing.assert_allclose(made_of.by_group, [[0.5, 0, 0.5]])


def test_a_large_background_is_thinned_evenly() -> None:
    background = rows(10 * MOST_BACKGROUND, seed=1)
    made_of = contributions(curved, rows(2), background, GROUPS)
    np.testing.assert_allclose(made_of.base, curved(background[::10]).mean(), rtol=1e-4)


def test_no_items_have_no_contributions() -> None:
    assert contributions(curved, rows(0), rows(3), GROUPS).by_group.shape == (0, 3)
