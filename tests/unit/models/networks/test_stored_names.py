"""Manifests and weight files keep the keys that releases have always had."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest
import torch

from models.networks.encoder import EncoderConfig, SharedEncoder
from models.networks.list_ranker import ListRanker
from models.networks.stored_names import stored_settings
from models.networks.text_transformer import TextConfig
from models.sharing.strategies.merging import Merging
from models.sharing.strategies.multi_task import MultiTask
from models.sharing.strategies.rank_distillation import RankDistillation
from models.sharing.training import Training

TRAINING = {
    "epochs", "catching_up_epochs", "child_epochs", "replay", "window", "events_a_step", "negatives", "ahead",
    "event_dropout", "learning_rate", "child_rate", "weight_decay", "warm_up",
}  # fmt: skip
LIST_RANKER = {
    "mean", "deviation", "enter.weight", "enter.bias", "mix.weight", "mix.bias", "leave.weight", "leave.bias",
    "straight.weight",
}  # fmt: skip
ENCODER = {
    "item.text_mean", "item.whitening", "item.project.weight", "item.residual.weight", "step.log_fade_hours",
    "step.log_scale", "step.type_vector.weight", "step.gap.weight", "step.gap.bias", "step.write.weight",
    "step.write.bias", "step.gate.weight", "step.gate.bias", "step.fade.weight", "step.fade.bias",
    "step.read.weight", "step.read.bias", "step.recent.weight", "step.out.weight", "step.out.bias",
    "step.skip.weight", "step.straight.weight",
}  # fmt: skip


@pytest.mark.parametrize(
    ("config", "keys"),
    [
        (Training(), TRAINING),
        (TextConfig(), {"model", "adapter", "rank", "steps", "pairs_a_step", "temperature", "learning_rate"}),
        (RankDistillation(), {"weight", "moments", "list_length", "recent", "fading", "skill_power", "folds", "name"}),
        (MultiTask(), {"weight", "hidden", "fewest_events", "targets", "name"}),
        (Merging(), {"training", "most_events", "fewest_events", "held_out", "most_held_out", "name"}),
    ],
    ids=lambda value: type(value).__name__,
)
def test_settings_have_the_keys_of_earlier_manifests(config: Any, keys: set[str]) -> None:
    assert set(stored_settings(config)) == keys


def test_nested_settings_have_the_keys_of_earlier_manifests() -> None:
    assert set(Merging().describe()["training"]) == TRAINING


def encoder() -> SharedEncoder:
    return SharedEncoder(EncoderConfig(items=3, text_dims=4, white_dims=2, dims=2, state_dims=2))


@pytest.mark.parametrize(("module", "keys"), [(ListRanker(3, 4), LIST_RANKER), (encoder(), ENCODER)])
def test_weights_have_the_keys_of_earlier_files(module: torch.nn.Module, keys: set[str]) -> None:
    assert set(module.state_dict()) == keys
    assert set(deepcopy(module).state_dict()) == keys


def test_weights_are_read_back_under_their_stored_keys() -> None:
    written, read = encoder(), encoder()
    read.load_state_dict(deepcopy(written).state_dict())
    for name, weight in written.named_parameters():
        assert torch.equal(weight, read.get_parameter(name))
