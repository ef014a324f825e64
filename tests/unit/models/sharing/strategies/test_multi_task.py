from __future__ import annotations

import numpy as np
import torch

from anabranch.messages import EVENT_TYPES
from models.networks.encoder import SharedEncoder
from models.sharing.strategies.multi_task import Expert, MultiTask, TaskLoss, project_gradient, without_conflict
from models.sharing.strategy import Done, TrainingData
from models.sharing.training import train
from tests.support.training_data import PURCHASE, TRAINING, VIEW, encoder, training_data


class Kept(MultiTask):
    """Remembers its heads, which are dropped after training."""

    term: TaskLoss | None = None

    def prepare(
        self, encoder: SharedEncoder, data: TrainingData, random: np.random.Generator, done: Done
    ) -> TaskLoss | None:
        self.term = super().prepare(encoder, data, random, done)
        return self.term


def prepared(data: TrainingData, strategy: MultiTask) -> TaskLoss | None:
    return strategy.prepare(encoder(), data, np.random.default_rng(0), lambda share: None)


def test_every_type_with_enough_events_is_a_task() -> None:
    types = [VIEW, VIEW, VIEW, VIEW, VIEW, VIEW, VIEW, PURCHASE, PURCHASE, EVENT_TYPES.index("cart")]
    strategy = MultiTask(min_events=60)
    term = prepared(training_data(types=types), strategy)
    assert term is not None
    assert term.tasks == [VIEW, PURCHASE]
    assert strategy.measured() == {"multi_task_view": 0.7, "multi_task_purchase": 0.2}


def test_one_type_needs_no_heads() -> None:
    strategy = MultiTask(min_events=1)
    assert prepared(training_data(), strategy) is None
    assert strategy.measured() == {}


def test_a_new_expert_is_the_identity() -> None:
    users = torch.randn(5, 16)
    torch.testing.assert_close(Expert(16, 8)(users), users)


def test_heads_are_trained_with_the_encoder_and_dropped() -> None:
    model, strategy = encoder(), Kept(min_events=1)
    names = set(model.state_dict())
    losses = train(model, training_data(types=(VIEW, PURCHASE)), [strategy], TRAINING, random_seed=0)
    assert losses["loss_multi_task"] > 0
    assert strategy.term is not None
    assert all(expert.outer.weight.any() for expert in strategy.term.experts)
    assert set(model.state_dict()) == names


def test_a_gradient_that_agrees_with_the_main_one_is_unchanged() -> None:
    gradient = torch.tensor([1.0, 0.0])
    assert torch.equal(without_conflict(gradient, torch.tensor([1.0, 1.0])), gradient)
    assert torch.equal(without_conflict(gradient, torch.zeros(2)), gradient)


def test_a_gradient_that_conflicts_loses_what_opposes_the_main_one() -> None:
    main = torch.tensor([1.0, 1.0])
    left = without_conflict(torch.tensor([-1.0, 0.0]), main)
    torch.testing.assert_close(left, torch.tensor([-0.5, 0.5]))
    assert left @ main == 0


def test_a_task_that_conflicts_moves_the_users_across_the_main_loss() -> None:
    users, main = torch.tensor([[1.0, 2.0]], requires_grad=True), torch.tensor([[0.0, 3.0]])
    shared = project_gradient(users, main)
    assert torch.equal(shared, users)
    (5 * shared[0, 0] - 7 * shared[0, 1]).backward()
    torch.testing.assert_close(users.grad, torch.tensor([[5.0, 0.0]]))


def test_equal_random_states_make_equal_heads_and_do_not_touch_that_of_torch() -> None:
    model, data, heads = encoder(), training_data(types=(VIEW, PURCHASE)), []
    for seed in (1, 2):
        torch.manual_seed(seed)
        expected = torch.rand(1)
        torch.manual_seed(seed)
        heads.append(MultiTask(min_events=1).prepare(model, data, np.random.default_rng(0), lambda share: None))
        assert torch.equal(torch.rand(1), expected)
    first, second = heads
    assert first is not None
    assert second is not None
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
