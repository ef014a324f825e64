from __future__ import annotations

from typing import cast

import numpy as np
import pytest
import torch
from torch import Tensor

from models.data.sequences import Positions, SequenceWindows
from models.networks.sampled_softmax import Negatives, Targets
from models.sharing.strategies.rank_distillation import ListDistillationLoss, SeedModelLists
from models.sharing.strategy import CatalogueVectors, TrainingStep
from tests.support.choices import SHARES, learned_shares


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
        target=np.empty(0, np.int64),
        log_loss=torch.zeros(()),
    )


def distil(lists: np.ndarray, logits: Tensor, negatives: Negatives) -> Tensor:
    """The loss of lists [m, K, k], all of equal weight, at one prediction point each."""
    points = SeedModelLists(np.arange(len(lists)), lists.astype(np.int32), np.ones(lists.shape[:2], np.float32))
    return ListDistillationLoss(points, 1.0, 8.0)(step_after(logits.expand(len(lists), -1), negatives))


def test_what_the_lists_have_in_half_of_the_cases_is_taught_the_probability_one_half() -> None:
    """Two seed models, each with a list of two: the item, and nothing more."""

    def loss(logits: Tensor, targets: Targets, negatives: Negatives) -> Tensor:
        lists = np.full((len(targets.items), 2, 2), -1)
        lists[:, :, 0] = targets.items[:, None]
        return distil(lists, logits, negatives)

    assert learned_shares(loss)[0] == pytest.approx(SHARES[0], abs=0.02)


def test_an_item_on_two_lists_and_among_the_negatives_counts_once() -> None:
    logits = torch.randn(len(SHARES), generator=torch.Generator().manual_seed(0))
    everything = np.tile(np.arange(len(SHARES)), 2)
    negatives = Negatives(everything, OneHot().at(everything), torch.full((len(everything),), float(np.log(2))))
    loss = distil(np.array([[[3, -1], [3, -1]]]), logits, negatives)
    share = float(torch.exp(-torch.arange(2) / 8.0)[0] / torch.exp(-torch.arange(2) / 8.0).sum())
    assert float(loss) == pytest.approx(-2 * share * float(torch.log_softmax(logits, dim=0)[3]), rel=1e-5)
