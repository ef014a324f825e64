from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from anabranch.ranking.inference.list_ranker import OnnxListRanker
from anabranch.release import UnverifiedRelease
from models.networks.list_ranker import ListRanker, ListRankerConfig, RankingLists, fit_list_ranker, list_loss
from models.networks.onnx_export import export_list_ranker


def lists(n: int = 300, own_wins: bool = True) -> RankingLists:
    """Lists of 5 candidates; the user has had the first two. The positive has the highest second feature."""
    random = np.random.default_rng(0)
    features = random.normal(size=(n, 5, 3)).astype(np.float32) * [100, 1, 0.01] + [5000, 0, 0]
    own = np.zeros((n, 5), np.bool_)
    own[:, :2] = True
    if not own_wins:
        features[:, :2, 1] = -9
    positive = features[:, :, 1].argmax(axis=1)
    return RankingLists(
        features.reshape(-1, 3).astype(np.float32), own.ravel(), np.arange(n + 1) * 5, positive, np.arange(n) % 3 == 0
    )


def hits(ranker: ListRanker, training_lists: RankingLists) -> float:
    with torch.no_grad():
        scores = ranker(torch.from_numpy(training_lists.features.reshape(-1, 5, 3))).numpy()
    return float((scores.argmax(axis=1) == training_lists.positive).mean())


def test_a_ranker_learns_which_feature_decides() -> None:
    training_lists = lists()
    assert hits(fit_list_ranker(training_lists, ListRankerConfig(epochs=20), random_seed=0), training_lists) > 0.9


def test_a_child_with_few_lists_ranks_as_well_as_its_parent_with_many() -> None:
    training_lists, few, config = lists(), lists(8), ListRankerConfig(epochs=1)
    parent = fit_list_ranker(training_lists, ListRankerConfig(epochs=20), random_seed=0)
    before = {name: weight.clone() for name, weight in parent.state_dict().items()}
    child = fit_list_ranker(few, config, random_seed=0, parent=parent)
    assert hits(child, training_lists) > 0.9 > hits(fit_list_ranker(few, config, random_seed=0), training_lists)
    assert all(torch.equal(weight, before[name]) for name, weight in parent.state_dict().items())


def test_equal_random_seeds_train_equal_rankers() -> None:
    first, second = (fit_list_ranker(lists(), ListRankerConfig(epochs=1), random_seed=3) for _ in range(2))
    for a, b in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("own_wins", [True, False])
def test_the_loss_of_a_class_is_among_its_items_alone(own_wins: bool) -> None:
    training_lists = lists(4, own_wins=own_wins)
    positive_is_own = training_lists.own[training_lists.offset[:-1] + training_lists.positive]
    is_other = training_lists.own != np.repeat(positive_is_own, 5)
    features = np.where(is_other[:, None], 7 * training_lists.features, training_lists.features)
    changed = replace(training_lists, features=features)
    ranker = ListRanker(3, 8)

    def loss(of: RankingLists, class_weight: float) -> float:
        return float(list_loss(ranker, of, np.arange(4), ListRankerConfig(class_weight=class_weight)).detach())

    among_all, among_all_changed = loss(training_lists, 0), loss(changed, 0)
    assert among_all != among_all_changed
    assert loss(training_lists, 2) - among_all == pytest.approx(loss(changed, 2) - among_all_changed, rel=1e-4)


def test_a_list_that_begins_a_session_counts_as_often_as_its_weight() -> None:
    ranker, training_lists = ListRanker(3, 8), lists(4)
    twice = np.array([0, 0, 1, 2, 3, 3])
    assert training_lists.begins_session.tolist() == [True, False, False, True]
    weighted = list_loss(ranker, training_lists, np.arange(4), ListRankerConfig(session_start_weight=2.0))
    repeated = list_loss(ranker, training_lists, twice, ListRankerConfig())
    assert float(weighted.detach()) == pytest.approx(float(repeated.detach()), rel=1e-5)


def test_no_lists_are_an_error() -> None:
    empty = RankingLists(
        np.empty((0, 3), np.float32),
        np.empty(0, np.bool_),
        np.zeros(1, np.int64),
        np.empty(0, np.int64),
        np.empty(0, np.bool_),
    )
    with pytest.raises(ValueError, match="the next item was never among the candidates"):
        fit_list_ranker(empty, ListRankerConfig(), random_seed=0)


def test_concatenated_lists_keep_their_positives() -> None:
    joined = RankingLists.concatenate([lists(2), lists(3)])
    assert len(joined) == 5
    assert joined.offset.tolist() == [0, 5, 10, 15, 20, 25]
    assert joined.positive.tolist() == [*lists(2).positive, *lists(3).positive]


def test_the_exported_ranker_scores_as_the_original(tmp_path: Path) -> None:
    ranker = fit_list_ranker(lists(), ListRankerConfig(epochs=1), random_seed=0)
    assert export_list_ranker(ranker, tmp_path)["order.onnx"] < 1e-4
    features = lists(4).features
    with torch.no_grad():
        expected = ranker(torch.from_numpy(features).reshape(4, 5, 3)).numpy().ravel()
    np.testing.assert_allclose(OnnxListRanker(UnverifiedRelease(tmp_path)).score(features), expected, atol=1e-4)
