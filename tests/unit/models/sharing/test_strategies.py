"""Properties of all strategies."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch

from models.networks.encoder import SharedEncoder
from models.networks.onnx_export import export_encoder
from models.pipeline.presets import STRATEGIES
from models.sharing.strategies.adapters import DomainAdapters
from models.sharing.strategies.merging import Merging
from models.sharing.strategies.multi_task import MultiTask
from models.sharing.strategies.rank_distillation import RankDistillation
from models.sharing.strategies.replay import Replay
from models.sharing.strategies.text_geometry import TextGeometry
from models.sharing.strategy import Strategy, TrainingData
from models.sharing.training import train
from models.stages import Done
from tests.support.training_data import PURCHASE, TRAINING, VIEW, encoder, training_data

HALF = 11_000
"""ms: each user's first ten events are before it."""


def every() -> list[Strategy]:
    return [
        TextGeometry(),
        DomainAdapters(),
        Replay(),
        Merging(training=TRAINING, min_events=20),
        RankDistillation(prediction_points=50),
        MultiTask(min_events=20),
    ]


NEEDS: dict[str, Callable[[TrainingData], bool]] = {
    "text_geometry": lambda data: bool(data.text_vectors.any()),
    "domain_adapters": lambda data: len(np.unique(data.domains)) > 1,
    "replay": lambda data: data.new_since_ms > 0,
    "merging": lambda data: len(np.unique(data.domains)) > 1 or len(np.unique(data.sequences.type)) > 1,
    "rank_distillation": lambda data: data.teachers is not None,
    "multi_task": lambda data: len(np.unique(data.sequences.type)) > 1,
}
"""What the data must have for a strategy to have an effect."""


@dataclass
class WithoutEffect:
    """Runs a strategy, so that it draws the same random numbers, on a copy of the encoder, and drops its loss."""

    strategy: Strategy

    @property
    def name(self) -> str:
        return self.strategy.name

    def prepare(self, encoder: SharedEncoder, data: TrainingData, random: np.random.Generator, done: Done) -> None:
        self.strategy.prepare(deepcopy(encoder), data, random, done)

    def describe(self) -> dict[str, Any]:
        return self.strategy.describe()

    def measured(self) -> dict[str, float]:
        return self.strategy.measured()


def trained_weights(strategy: Strategy, data: TrainingData) -> dict[str, torch.Tensor]:
    model = encoder()
    train(model, data, [strategy], TRAINING, random_seed=0)
    return model.state_dict()


def equal(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("strategy", every(), ids=lambda strategy: strategy.name)
@pytest.mark.parametrize(
    "data",
    [
        training_data(),
        training_data(new_since_ms=HALF),
        training_data(domains=2, text=True),
        training_data(types=(VIEW, PURCHASE), seed_models=True),
        training_data(domains=2, types=(VIEW, PURCHASE), text=True, seed_models=True, new_since_ms=HALF),
    ],
    ids=["plain", "child", "domains and texts", "event types and seed models", "everything"],
)
def test_a_strategy_changes_the_trained_encoder_exactly_if_the_data_has_what_it_needs(
    strategy: Strategy, data: TrainingData
) -> None:
    changes = not equal(trained_weights(strategy, data), trained_weights(WithoutEffect(strategy), data))
    assert changes == NEEDS[strategy.name](data)


@pytest.mark.parametrize(("domains", "types"), [(1, (VIEW,)), (1, (VIEW, PURCHASE)), (2, (VIEW,))])
@pytest.mark.parametrize("new_since_ms", [0, HALF])
def test_all_strategies_train_a_finite_encoder_whatever_the_data_has(
    domains: int, types: Sequence[int], new_since_ms: int
) -> None:
    model = encoder()
    losses = train(model, training_data(domains, types, new_since_ms=new_since_ms), every(), TRAINING, random_seed=0)
    assert all(torch.isfinite(weight).all() for weight in model.parameters())
    assert all(loss >= 0 for name, loss in losses.items() if name.startswith("loss"))


@pytest.mark.parametrize("text", [True, False])
def test_with_every_strategy_the_served_encoder_is_the_trained_one(text: bool, tmp_path: Path) -> None:
    model, data = encoder(dropout=0.2), training_data(domains=2, types=(VIEW, PURCHASE), text=text, seed_models=True)
    train(model, data, every(), TRAINING, random_seed=0)
    losses = train(model, replace(data, new_since_ms=HALF), every(), TRAINING, random_seed=1)
    assert {"loss_rank_distillation", "loss_multi_task", "loss_replay"} <= set(losses)
    assert losses["merging_specialists"] == 4
    assert model.item.film is not None
    parity = export_encoder(model, tmp_path)
    assert set(parity) == {"item.onnx", "step.onnx", "gates.onnx", "readout.onnx", "scan"}
    assert max(parity.values()) < 1e-4


def test_equal_random_seeds_train_equal_encoders() -> None:
    data = training_data(domains=2, types=(VIEW, PURCHASE), text=True, seed_models=True, new_since_ms=HALF)
    first, second = encoder(dropout=0.2), encoder(dropout=0.2)
    for model in (first, second):
        train(model, data, every(), TRAINING, random_seed=3)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))


def test_settings_and_measurements_of_every_strategy_survive_json() -> None:
    strategies = every()
    data = training_data(domains=2, types=(VIEW, PURCHASE), new_since_ms=HALF)
    train(encoder(), data, strategies, TRAINING, random_seed=0)
    manifest = {
        strategy.name: {"settings": strategy.describe(), "measured": strategy.measured()} for strategy in strategies
    }
    assert msgspec.json.decode(msgspec.json.encode(manifest)) == manifest


def test_a_strategy_is_chosen_by_the_name_it_has_in_the_manifest() -> None:
    assert {name: make().name for name, make in STRATEGIES.items()} == {name: name for name in STRATEGIES}
    assert {strategy.name for strategy in every()} == set(STRATEGIES)


def test_training_leaves_the_processors_floating_point_mode_as_it_was() -> None:
    half_of_the_smallest_normal = np.array([np.finfo(np.float64).tiny]) / 2
    assert half_of_the_smallest_normal[0] > 0
    train(encoder(), training_data(), [], TRAINING, random_seed=0)
    assert (np.array([np.finfo(np.float64).tiny]) / 2)[0] > 0


def test_a_child_leaves_the_residuals_of_items_that_it_is_not_trained_on() -> None:
    """In the new half only the first four items occur, and nothing old is replayed: others are negatives alone."""
    data = training_data(new_since_ms=HALF)
    old = data.sequences.ts < HALF
    sequences = replace(data.sequences, item=np.where(old, data.sequences.item, data.sequences.item % 4))
    model = encoder()
    before = model.item.residual.weight.detach().clone()
    train(model, replace(data, sequences=sequences), [], replace(TRAINING, window=1, replay=0.0), random_seed=0)
    changed = (model.item.residual.weight != before).any(dim=1)
    assert np.flatnonzero(changed.numpy()).tolist() == data.numbers[:4].tolist()
