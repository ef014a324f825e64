"""What holds for all strategies together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
import torch

from models.networks.onnx_export import export_encoder
from models.pipeline.presets import STRATEGIES
from models.sharing.strategies.adapters import DomainAdapters
from models.sharing.strategies.merging import Merging
from models.sharing.strategies.multi_task import MultiTask
from models.sharing.strategies.rank_distillation import RankDistillation
from models.sharing.strategies.replay import Replay
from models.sharing.strategies.text_geometry import TextGeometry
from models.sharing.strategy import Strategy
from models.sharing.training import train
from tests.support.training_data import PURCHASE, TRAINING, VIEW, encoder, training_data


def every() -> list[Strategy]:
    return [
        TextGeometry(),
        DomainAdapters(),
        Replay(),
        Merging(training=TRAINING, min_events=20),
        RankDistillation(prediction_points=50),
        MultiTask(min_events=20),
    ]


@pytest.mark.parametrize("text", [True, False])
def test_with_every_strategy_the_served_encoder_is_the_trained_one(text: bool, tmp_path: Path) -> None:
    made, together = encoder(dropout=0.2), training_data(domains=2, types=(VIEW, PURCHASE), text=text, seeds=True)
    train(made, together, every(), TRAINING, random_seed=0)
    losses = train(made, replace(together, new_since_ms=11_000), every(), TRAINING, random_seed=1)
    assert {"loss_rank_distillation", "loss_multi_task", "loss_replay"} <= set(losses)
    assert losses["merging_specialists"] == 4
    assert made.item.film is not None
    parity = export_encoder(made, tmp_path)
    assert set(parity) == {"item.onnx", "step.onnx", "gates.onnx", "readout.onnx", "scan"}
    assert max(parity.values()) < 1e-4


@pytest.mark.parametrize(("domains", "types"), [(1, (VIEW,)), (1, (VIEW, PURCHASE)), (2, (VIEW,))])
@pytest.mark.parametrize("new_since_ms", [0, 11_000])
def test_every_strategy_works_whatever_the_course_has(domains: int, types: Sequence[int], new_since_ms: int) -> None:
    made = encoder()
    losses = train(made, training_data(domains, types, new_since_ms=new_since_ms), every(), TRAINING, random_seed=0)
    assert all(torch.isfinite(weight).all() for weight in made.parameters())
    assert all(loss >= 0 for name, loss in losses.items() if name.startswith("loss"))


def test_equal_seeds_train_equal_encoders() -> None:
    of = training_data(domains=2, types=(VIEW, PURCHASE), text=True, seeds=True, new_since_ms=11_000)
    one, other = encoder(dropout=0.2), encoder(dropout=0.2)
    for made in (one, other):
        train(made, of, every(), TRAINING, random_seed=3)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


def test_a_manifest_can_hold_what_every_strategy_tells() -> None:
    strategies = every()
    train(
        encoder(),
        training_data(domains=2, types=(VIEW, PURCHASE), new_since_ms=11_000),
        strategies,
        TRAINING,
        random_seed=0,
    )
    told = {one.name: {"settings": one.describe(), "measured": one.measured()} for one in strategies}
    assert msgspec.json.decode(msgspec.json.encode(told)) == told


def test_a_strategy_is_chosen_by_the_name_it_has_in_the_manifest() -> None:
    assert {name: make().name for name, make in STRATEGIES.items()} == {name: name for name in STRATEGIES}
    assert {one.name for one in every()} == set(STRATEGIES)
