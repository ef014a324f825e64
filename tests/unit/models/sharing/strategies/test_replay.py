from __future__ import annotations

from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest
import torch

from models.networks.encoder import SharedEncoder
from models.sharing.strategies.replay import ParentDistillationLoss, ParentEncoder, Replay
from models.sharing.strategy import AuxiliaryLoss, Done, Strategy, TrainingData, TrainingStep
from models.sharing.training import TrainingObserver, train
from tests.support.training_data import TRAINING, encoder, training_data

HALF = 11_000
"""ms: each user's first ten events are old."""
CHILD = replace(TRAINING, catching_up_epochs=8, replay=1.0, child_rate=1e-2, window=5)


class Kept(Replay):
    """Remembers its loss."""

    term: ParentDistillationLoss | None = None

    def prepare(
        self, encoder: SharedEncoder, data: TrainingData, random: np.random.Generator, done: Done
    ) -> ParentDistillationLoss | None:
        self.term = super().prepare(encoder, data, random, done)
        return self.term


def child(strategy: Strategy | None, data: TrainingData) -> tuple[SharedEncoder, list[float]]:
    """A trained encoder, trained on the new events, and its replay loss at each step."""
    model, curve = encoder(), []
    train(model, replace(data, new_since_ms=0), [], TRAINING, random_seed=0)

    def record(name: str, value: float, step: int) -> None:
        if name == "loss_replay":
            curve.append(value)

    train(model, data, [strategy] if strategy else [], CHILD, random_seed=0, observer=TrainingObserver(curve=record))
    return model, curve


def users(model: SharedEncoder, data: TrainingData) -> torch.Tensor:
    rows = np.flatnonzero(data.sequences.ts < data.new_since_ms).reshape(-1, 10)
    return ParentEncoder.copy_of(model, data).users(data.sequences, rows)


@pytest.mark.parametrize("new_since_ms", [0, 1000, 10**9])
def test_without_old_and_new_events_there_is_nothing_to_replay(new_since_ms: int) -> None:
    strategy = Replay()
    model, data = encoder(), training_data(new_since_ms=new_since_ms)
    assert strategy.prepare(model, data, np.random.default_rng(0), lambda share: None) is None
    assert strategy.measured() == {}


def test_a_first_release_is_distilled_in_fine_tuning_only_if_configured() -> None:
    model, data = encoder(), training_data(new_since_ms=HALF)

    def held(strategy: Replay, child: bool) -> bool:
        term = strategy.prepare(model, replace(data, child=child), np.random.default_rng(0), lambda share: None)
        return term is not None

    assert held(Replay(), child=False)
    assert held(Replay(first=False), child=True)
    assert not held(Replay(first=False), child=False)


def test_a_child_starts_at_its_parent_and_diverges() -> None:
    _, curve = child(Replay(), training_data(new_since_ms=HALF))
    assert curve[0] == pytest.approx(0, abs=1e-5)
    assert max(curve) > 1e-3


def test_distillation_keeps_a_child_closer_to_its_parent_on_old_events() -> None:
    data = training_data(new_since_ms=HALF)
    parent = encoder()
    train(parent, replace(data, new_since_ms=0), [], TRAINING, random_seed=0)
    free, held = (child(strategy, data)[0] for strategy in (None, Replay(weight=10.0)))
    before = users(parent, data)
    assert (users(held, data) - before).norm() < 0.8 * (users(free, data) - before).norm()


def test_the_parent_is_frozen() -> None:
    model, data, strategy = encoder(), training_data(new_since_ms=HALF), Kept()
    before = deepcopy(model.step.state_dict())
    train(model, data, [strategy], CHILD, random_seed=0)
    assert strategy.term is not None
    for name, weight in strategy.term.parent.step.state_dict().items():
        assert torch.equal(weight, before[name])
    assert not torch.equal(model.step.read.weight, before["read.weight"])


def test_the_weight_follows_the_share_of_old_items_and_of_exemplars() -> None:
    """Items 16 to 19 are new, 4 of 20. Of every user's events but the first, nine are old and ten new."""
    data, strategy = training_data(new_since_ms=HALF), Kept(weight=2.0)
    item = np.where(data.sequences.ts < HALF, data.sequences.item % 16, data.sequences.item)
    data = replace(data, sequences=replace(data.sequences, item=item.astype(np.int32)))
    train(encoder(), data, [strategy], CHILD, random_seed=0)
    assert strategy.measured() == {"replay_old_items": 0.8}
    assert strategy.term is not None
    assert not strategy.term.old_items[16:].any()
    assert strategy.term.adapted_weight == pytest.approx(2 * (0.8 * 9 / 10) ** 0.5, rel=0.01)


class Checked(Replay):
    """Checks what every step's loss depends on."""

    def prepare(
        self, encoder: SharedEncoder, data: TrainingData, random: np.random.Generator, done: Done
    ) -> AuxiliaryLoss | None:
        term = super().prepare(encoder, data, random, done)
        assert term is not None

        def check(step: TrainingStep) -> torch.Tensor:
            new = torch.from_numpy(~term.old_items[step.negatives.items])
            vectors = step.negatives.vectors
            longer = replace(step.negatives, vectors=torch.where(new[:, None], 5 * vectors, vectors))
            loss, again = deepcopy(term)(step), deepcopy(term)(replace(step, negatives=longer))
            assert new.any()
            assert torch.equal(loss, again)
            if loss.requires_grad:
                (moved,) = torch.autograd.grad(loss, step.users, retain_graph=True)
                old = step.mask.copy()
                old[step.mask] = term.old[step.target]
                assert not moved[torch.from_numpy(~old)].any()
            return term(step)

        return check


def test_only_old_targets_are_distilled_over_old_items_only() -> None:
    data = training_data(new_since_ms=HALF)
    item = np.where(data.sequences.ts < HALF, data.sequences.item % 16, data.sequences.item)
    _, curve = child(Checked(), replace(data, sequences=replace(data.sequences, item=item.astype(np.int32))))
    assert max(curve) > 1e-3
