from __future__ import annotations

import numpy as np
import pytest

from anabranch.co_visit.text_prior import TextPrior
from models.co_visit.text_neighbours import text_prior

TEXT_DIMS = 12


def texts(*groups: int, seed: int = 0) -> np.ndarray:
    """One vector per item, near those of its group; -1: no text."""
    random = np.random.default_rng(seed)
    centres = random.normal(size=(max(groups) + 1, TEXT_DIMS))
    has_text = np.array(groups)[:, None] >= 0
    vectors = centres[np.array(groups)] + random.normal(size=(len(groups), TEXT_DIMS)) / 10
    return np.where(has_text, vectors, 0).astype(np.float32)


def row(neighbours: TextPrior, item: int) -> dict[int, float]:
    present = neighbours.share[item] > 0
    return dict(zip(neighbours.item[item][present].tolist(), neighbours.share[item][present].tolist(), strict=True))


def test_the_nearest_neighbours_are_of_the_items_group_and_never_itself() -> None:
    nearest = text_prior(texts(*[0, 1, 2, 3] * 3), width=2).item
    assert [sorted(row.tolist()) for row in nearest[:4]] == [[4, 8], [5, 9], [6, 10], [7, 11]]


def test_shares_sum_to_1_and_decrease_with_the_distance() -> None:
    share = text_prior(texts(*[0, 1, 2, 3] * 3), width=2).share
    np.testing.assert_allclose(share.sum(axis=1), 1, rtol=1e-5)
    assert (np.diff(share, axis=1) <= 0).all()


def test_an_item_without_text_has_no_neighbours_and_is_none() -> None:
    neighbours = text_prior(texts(0, 0, -1, 1, 1, -1), width=3)
    assert row(neighbours, 2) == {}
    assert not np.isin(neighbours.item, [2, 5]).any()


@pytest.mark.parametrize("groups", [(-1, -1), (0, -1), (0,)])
def test_fewer_than_two_texts_make_no_neighbours(groups: tuple[int, ...]) -> None:
    assert not text_prior(texts(*groups, 0)[:-1]).share.any()


def test_items_with_equal_texts_are_neighbours_with_cosine_1() -> None:
    vectors = texts(0, 1, 2, 3)
    neighbours = text_prior(np.concatenate([vectors, vectors]), width=1)
    assert [row(neighbours, item) for item in range(4)] == [{item + 4: 1.0} for item in range(4)]
