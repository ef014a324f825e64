from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from anabranch.ranking.inference.user_encoder import Order as OnnxOrder
from anabranch.release import Draft
from models.networks.list_ranker import ListRanker, ListRankerConfig, RankingLists, fit_list_ranker, list_loss
from models.networks.onnx_export import export_list_ranker


def lists(n: int = 300, own_wins: bool = True) -> RankingLists:
    """Lists of 5 candidates, the first two the user's own. What comes has the greatest second feature."""
    random = np.random.default_rng(0)
    features = random.normal(size=(n, 5, 3)).astype(np.float32) * [100, 1, 0.01] + [5000, 0, 0]
    own = np.zeros((n, 5), np.bool_)
    own[:, :2] = True
    if not own_wins:
        features[:, :2, 1] = -9
    positive = features[:, :, 1].argmax(axis=1)
    return RankingLists(features.reshape(-1, 3).astype(np.float32), own.ravel(), np.arange(n + 1) * 5, positive)


def hits(order: ListRanker, made: RankingLists) -> float:
    with torch.no_grad():
        scores = order(torch.from_numpy(made.features.reshape(-1, 5, 3))).numpy()
    return float((scores.argmax(axis=1) == made.positive).mean())


def test_an_order_learns_which_feature_tells() -> None:
    made = lists()
    assert hits(fit_list_ranker(made, ListRankerConfig(epochs=20), random_seed=0), made) > 0.9


def test_a_child_knows_from_few_lists_what_its_parent_knew_from_many() -> None:
    made, few, config = lists(), lists(8), ListRankerConfig(epochs=1)
    parent = fit_list_ranker(made, ListRankerConfig(epochs=20), random_seed=0)
    before = {name: weight.clone() for name, weight in parent.state_dict().items()}
    child = fit_list_ranker(few, config, random_seed=0, parent=parent)
    assert hits(child, made) > 0.9 > hits(fit_list_ranker(few, config, random_seed=0), made)
    assert all(torch.equal(weight, before[name]) for name, weight in parent.state_dict().items())


def test_equal_seeds_make_equal_orders() -> None:
    one, other = (fit_list_ranker(lists(), ListRankerConfig(epochs=1), random_seed=3) for _ in range(2))
    for a, b in zip(one.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b)


def test_a_list_learned_for_discovery_does_not_see_the_users_own_items() -> None:
    made = lists(4, own_wins=False)
    features = np.where(made.own[:, None], 7 * made.features, made.features)
    changed = RankingLists(features, made.own, made.offset, made.positive)
    order, every = ListRanker(3, 8), np.arange(4)
    hidden, shown = np.ones(4, np.bool_), np.zeros(4, np.bool_)
    assert list_loss(order, made, every, hidden) == list_loss(order, changed, every, hidden)
    assert list_loss(order, made, every, shown) != list_loss(order, changed, every, shown)


def test_no_list_is_an_error_that_says_why() -> None:
    empty = RankingLists(
        np.empty((0, 3), np.float32), np.empty(0, np.bool_), np.zeros(1, np.int64), np.empty(0, np.int64)
    )
    with pytest.raises(ValueError, match="the next item was never among the candidates"):
        fit_list_ranker(empty, ListRankerConfig(), random_seed=0)


def test_lists_joined_end_to_end_keep_their_positives() -> None:
    joined = RankingLists.concatenate([lists(2), lists(3)])
    assert len(joined) == 5
    assert joined.offset.tolist() == [0, 5, 10, 15, 20, 25]
    assert joined.positive.tolist() == [*lists(2).positive, *lists(3).positive]


def test_the_exported_order_scores_like_the_original(tmp_path: Path) -> None:
    order = fit_list_ranker(lists(), ListRankerConfig(epochs=1), random_seed=0)
    assert export_list_ranker(order, tmp_path)["order.onnx"] < 1e-4
    features = lists(4).features
    with torch.no_grad():
        expected = order(torch.from_numpy(features).reshape(4, 5, 3)).numpy().ravel()
    np.testing.assert_allclose(OnnxOrder(Draft(tmp_path)).score(features), expected, atol=1e-4)
