"""How varied slates are, by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from models.metrics.slate_variety import SlateVariety

NONE, BREAD, MILK, HATS = 0, 1, 2, 3


def variety(slates: list[list[int]], histories: list[list[int]]) -> SlateVariety:
    return SlateVariety.of_slates(np.array(slates, np.uint64), np.array(histories, np.uint64))


def test_categories_and_the_largest_share_are_means_over_slates() -> None:
    both = variety([[BREAD, BREAD, BREAD, MILK], [BREAD, MILK, HATS, NONE]], [[BREAD], [BREAD]])
    assert (both.slates, both.categories) == (2, 2.5)
    assert both.largest == pytest.approx((3 / 4 + 1 / 3) / 2)


def test_a_slate_with_the_shares_of_the_history_has_no_divergence() -> None:
    assert variety([[BREAD, MILK]], [[MILK, MILK, BREAD, BREAD]]).divergence == pytest.approx(0, abs=1e-9)


def test_a_category_that_the_slate_lacks_makes_the_divergence_large_but_finite() -> None:
    half = variety([[BREAD, BREAD]], [[BREAD, MILK]])
    smoothed = (0.99 + 0.01 * 0.5, 0.01 * 0.5)
    assert half.divergence == pytest.approx(sum(0.5 * math.log(0.5 / q) for q in smoothed))
    assert half.divergence < variety([[HATS, HATS]], [[BREAD, MILK]]).divergence < math.inf


def test_what_has_no_category_does_not_count() -> None:
    assert variety([[NONE, NONE]], [[BREAD]]) == SlateVariety(slates=0, categories=0, largest=0, divergence=0)
    without_history = variety([[BREAD, NONE]], [[NONE]])
    assert (without_history.slates, without_history.largest, without_history.divergence) == (1, 1.0, 0.0)
