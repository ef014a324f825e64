from __future__ import annotations

from dataclasses import dataclass, replace
from typing import cast

import numpy as np
import pytest
import torch
from torch import Tensor

from anabranch.ranking.policy import Policy
from models.data.event_log import EventLog
from models.data.excluded_items import SlateRules
from models.data.sequences import Contexts, Positions, SequenceWindows
from models.networks.sampled_softmax import Negatives, Targets
from models.seeds.seed_model import TopK, Vectors
from models.sharing.strategies.rank_distillation import ListDistillationLoss, RankDistillation, TeacherLists
from models.sharing.strategy import CatalogueVectors, TrainingData, TrainingStep
from models.sharing.teachers import Fold, Teachers
from models.sharing.training import train
from models.stages import Done
from tests.support.choices import SHARES, learned_shares
from tests.support.layouts import LAYOUT
from tests.support.training_data import EVENTS, ITEMS, TRAINING, USERS, encoder, training_data

TAUGHT = 13
"""The item that the teacher lists everywhere, first of `LENGTH`."""
LENGTH = 20
HALF = 11_000
"""ms: half of the events are before it."""
ALL = Policy(allow_session_repeats=True)


@dataclass
class Listing:
    """Lists one item everywhere."""

    item: int = TAUGHT
    name: str = "listing"

    def fit(self, log: EventLog, text_vectors: Vectors, done: Done) -> None: ...

    def predict_top_k(self, contexts: Contexts, k: int) -> TopK:
        items = np.full((len(contexts), k), -1, np.int32)
        items[:, 0] = self.item
        return TopK(items, np.ones(len(contexts), np.float32))


@dataclass
class NextInTurn(Listing):
    """Lists the item that follows the last one in the users' order, so it is always right."""

    name: str = "next_in_turn"

    def predict_top_k(self, contexts: Contexts, k: int) -> TopK:
        items = np.full((len(contexts), k), -1, np.int32)
        items[:, 0] = (contexts.recent[:, 0] + 1) % ITEMS
        return TopK(items, np.ones(len(contexts), np.float32))


def taught(*models: Listing, policy: Policy = ALL, fitted_until_ms: int = 0) -> TrainingData:
    return replace(training_data(), teachers=Teachers([Fold(fitted_until_ms, models)], SlateRules(policy, LAYOUT)))


def prepared(data: TrainingData, strategy: RankDistillation) -> ListDistillationLoss:
    loss = strategy.prepare(encoder(), data, np.random.default_rng(0), lambda share: None)
    assert loss is not None
    return loss


def mean_rank(data: TrainingData, weight: float, item: int) -> float:
    """Mean rank of an item, 1 for the best, after training with rank distillation of a weight."""
    model = encoder()
    strategies = [RankDistillation(weight=weight)] if weight else []
    train(model, data, strategies, replace(TRAINING, epochs=6), random_seed=0)
    items = CatalogueVectors(model, data)
    rows = np.arange(len(data.sequences)).reshape(USERS, EVENTS)
    with torch.no_grad():
        scores = model.step(*items.inputs(data.sequences, rows)) @ items.at(np.arange(ITEMS)).T
    return float((scores > scores[..., [item]]).sum(dim=-1).float().mean()) + 1


def test_the_encoder_learns_to_rank_what_the_seed_models_list() -> None:
    data = taught(Listing())
    assert mean_rank(data, 1.0, TAUGHT) < mean_rank(data, 0.0, TAUGHT) / 2


def test_a_seed_model_that_predicts_nothing_right_has_less_weight_than_one_that_does() -> None:
    strategy = RankDistillation()
    prepared(taught(Listing(), NextInTurn()), strategy)
    measured = strategy.measured()
    assert measured["skill_next_in_turn"] == 1.0
    assert measured["weight_next_in_turn"] > 0.9
    assert measured["weight_listing"] == pytest.approx(1 - measured["weight_next_in_turn"], abs=1e-4)


def test_events_that_the_seed_models_were_fitted_to_are_not_taught() -> None:
    data = taught(Listing(), fitted_until_ms=HALF)
    lists = prepared(data, RankDistillation()).lists
    next_ts = np.r_[data.sequences.ts[1:], 0]
    assert (lists.index >= 0).sum() == USERS * EVENTS // 2
    assert (next_ts[lists.index >= 0] >= HALF).all()


def test_every_prediction_point_has_lists_unless_there_are_more_than_may_be_asked() -> None:
    data = taught(Listing())
    assert (prepared(data, RankDistillation()).lists.index >= 0).sum() == USERS * (EVENTS - 1)
    assert (prepared(data, RankDistillation(prediction_points=30)).lists.index >= 0).sum() == 30


def test_a_list_counts_as_much_as_the_weight_says_however_few_prediction_points_have_one() -> None:
    """The sum over the events is divided by all targets of the step, so few lists add up to little."""
    data = taught(Listing())
    few, many = (
        train(encoder(), data, [RankDistillation(weight=1.0, prediction_points=points)], TRAINING, 0)
        for points in (USERS * (EVENTS - 1) // 8, USERS * (EVENTS - 1))
    )
    assert few["loss_rank_distillation"] < many["loss_rank_distillation"] / 3


def test_what_the_policy_bars_is_not_taught() -> None:
    """Every user goes through all items in one session, so at last the taught item is barred."""
    data = taught(Listing(), policy=Policy())
    lists = prepared(data, RankDistillation()).lists
    rows = np.flatnonzero(lists.index >= 0)
    had_it = np.array([TAUGHT in data.sequences.item[row - row % EVENTS : row + 1] for row in rows])
    listed = (lists.items[lists.index[rows]] >= 0).any(axis=1)
    assert had_it.any()
    assert listed.tolist() == (~had_it).tolist()


def test_without_teachers_nothing_is_distilled() -> None:
    strategy = RankDistillation()
    assert strategy.prepare(encoder(), training_data(), np.random.default_rng(0), lambda share: None) is None
    assert strategy.measured() == {}


class OneHot:
    """Item vectors of free logits: item i is the unit vector i."""

    def at(self, rows: Positions) -> Tensor:
        return torch.eye(len(SHARES))[torch.from_numpy(rows.astype(np.int64))]


def step_after(users: Tensor, negatives: Negatives) -> TrainingStep:
    """A step of windows of one event each; row i of the sequences is window i."""
    row = np.arange(len(users))[:, None]
    return TrainingStep(
        windows=SequenceWindows(row, np.ones_like(row, np.bool_), row + 1),
        users=users[:, None],
        items=cast(CatalogueVectors, OneHot()),
        negatives=negatives,
        mask=np.zeros(row.shape, np.bool_),
        target=np.arange(len(users)),
        log_loss=torch.zeros(()),
    )


def distil(lists: np.ndarray, logits: Tensor, negatives: Negatives) -> Tensor:
    """The loss of lists [m, k], whose first item has all the weight, at one prediction point each."""
    weight = np.zeros(lists.shape, np.float32)
    weight[:, 0] = 1.0
    points = TeacherLists(np.arange(len(lists)), lists.astype(np.int32), weight)
    return ListDistillationLoss(points, 1.0)(step_after(logits.expand(len(lists), -1), negatives))


def test_what_the_lists_have_in_half_of_the_cases_is_taught_the_probability_one_half() -> None:
    """A list of two: the item, and nothing more."""

    def loss(logits: Tensor, targets: Targets, negatives: Negatives) -> Tensor:
        lists = np.full((len(targets.items), 2), -1)
        lists[:, 0] = targets.items
        return distil(lists, logits, negatives)

    assert learned_shares(loss)[0] == pytest.approx(SHARES[0], abs=0.02)


def test_an_item_on_a_list_and_among_the_negatives_counts_once() -> None:
    logits = torch.randn(len(SHARES), generator=torch.Generator().manual_seed(0))
    everything = np.tile(np.arange(len(SHARES)), 2)
    negatives = Negatives(everything, OneHot().at(everything), torch.full((len(everything),), float(np.log(2))))
    loss = distil(np.array([[3, 7, -1]]), logits, negatives)
    assert float(loss) == pytest.approx(-float(torch.log_softmax(logits, dim=0)[3]), rel=1e-5)
