from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from models.networks.encoder import SharedEncoder
from models.sharing.held_out import held_out_rows
from models.sharing.strategies.merging import Merging, linear, specialist, task_arithmetic, ties, weight_delta
from models.sharing.strategy import TrainingData
from models.sharing.training import train
from tests.support.training_data import EVENTS, PURCHASE, TRAINING, USERS, VIEW, encoder, training_data

MERGING = Merging(training=TRAINING, min_events=20, held_out=0.5)
A = {"w": torch.tensor([1.0, -3.0, 0.1, 2.0])}
B = {"w": torch.tensor([4.0, 1.0, -0.1, -3.0])}


def merged(model: SharedEncoder, data: TrainingData, strategy: Merging = MERGING) -> dict[str, float]:
    """Merge into the encoder in place; returns what was measured."""
    strategy.prepare(model, data, np.random.default_rng(0), lambda share: None)
    return strategy.measured()


def weights(data: SharedEncoder) -> dict[str, Tensor]:
    return {name: weight.clone() for name, weight in data.state_dict().items()}


def test_linear_averages_the_changes() -> None:
    torch.testing.assert_close(linear([A, B], [0.5, 0.5])["w"], torch.tensor([2.5, -1.0, 0.0, -0.5]))
    torch.testing.assert_close(linear([A, B], [0.25, 0.75])["w"], torch.tensor([3.25, 0.0, -0.05, -1.75]))


def test_task_arithmetic_adds_the_changes_and_scales_the_sum() -> None:
    torch.testing.assert_close(task_arithmetic([A, B], 0.5)["w"], torch.tensor([2.5, -1.0, 0.0, -0.5]))
    torch.testing.assert_close(task_arithmetic([A, B], 1.0)["w"], torch.tensor([5.0, -2.0, 0.0, -1.0]))


def test_ties_trims_elects_a_sign_and_averages_what_has_it() -> None:
    # Trimmed to two entries each: [0, -3, 0, 2] and [4, 0, 0, -3]; of 2 and -3 the sign of the larger wins.
    torch.testing.assert_close(ties([A, B], 0.5)["w"], torch.tensor([4.0, -3.0, 0.0, -3.0]))
    # To three: [1, -3, 0, 2] and [4, 1, 0, -3]; where both have the sign, their mean counts.
    torch.testing.assert_close(ties([A, B], 0.75)["w"], torch.tensor([2.5, -3.0, 0.0, -3.0]))


def test_ties_trims_over_all_weights_together_and_keeps_their_shapes() -> None:
    small, large = torch.full((2, 1), 0.1), torch.full((1, 2), 5.0)
    done = ties([{"small": small, "large": large}] * 2, 0.5)
    torch.testing.assert_close(done["small"], torch.zeros(2, 1))
    torch.testing.assert_close(done["large"], large)


def test_with_one_domain_and_one_type_nothing_is_merged() -> None:
    model = encoder()
    before = weights(model)
    assert merged(model, training_data()) == {"merging_specialists": 0}
    assert all(torch.equal(before[name], weight) for name, weight in model.state_dict().items())


def test_a_domain_with_too_few_events_has_no_specialist() -> None:
    assert merged(encoder(), training_data(domains=2), Merging(training=TRAINING)) == {"merging_specialists": 0}


def test_the_best_merge_lowers_the_loss_at_held_out_prediction_points() -> None:
    measured = merged(encoder(), training_data(domains=2, types=(VIEW, PURCHASE)))
    assert measured["merging_specialists"] == 4
    losses = [measured[f"merging_loss_{method}"] for method in ("linear", "task_arithmetic", "ties")]
    assert min(losses) < measured["merging_loss_none"]
    assert max(measured[f"merging_{name}"] for name in ("domain_1", "domain_2", "view", "purchase")) > 0


def test_useless_specialists_are_not_merged() -> None:
    model, data, far_too_fast = encoder(), training_data(domains=2), replace(TRAINING, learning_rate=3.0)
    train(model, data, [], replace(TRAINING, epochs=30), random_seed=0)
    before = weights(model)
    measured = merged(model, data, replace(MERGING, training=far_too_fast))
    assert measured["merging_loss_none"] < measured["merging_loss_linear"]
    assert measured["merging_domain_1"] == measured["merging_domain_2"] == 0
    assert all(torch.equal(before[name], weight) for name, weight in model.state_dict().items())


def test_merging_does_not_change_the_items() -> None:
    model = encoder()
    before = weights(model)
    merged(model, training_data(domains=2, text=True))
    changed = {name for name, weight in model.state_dict().items() if not torch.equal(before[name], weight)}
    assert changed
    assert all(name.startswith("step.") for name in changed)


def test_specialists_train_on_their_slice_without_the_held_out_events() -> None:
    data = training_data(domains=2, types=(VIEW, PURCHASE))
    assert data.domains is not None
    held = held_out_rows(data.sequences, 0.5, 1000)
    slices = MERGING.slices(data, held)
    assert set(slices) == {"domain_1", "domain_2", "view", "purchase"}
    for number in (1, 2):
        sequences = slices[f"domain_{number}"].sequences
        assert set(data.domains[sequences.item]) == {number}
    purchase = slices["purchase"]
    assert purchase.targets is not None
    assert set(purchase.sequences.type[purchase.targets]) == {PURCHASE}
    assert len(purchase.sequences) == len(data.sequences) - len(held)


def test_a_specialist_trains_the_recurrent_unit_and_not_the_items() -> None:
    model = encoder()
    trained = specialist(model, training_data(), TRAINING, 0, lambda share: None)
    for name, weight in trained.item.state_dict().items():
        assert torch.equal(weight, model.item.state_dict()[name])
    assert all(delta.any() for delta in weight_delta(model.step, trained.step).values())


def test_a_specialist_trains_on_the_newest_events_only() -> None:
    data = training_data(domains=2)
    slices = Merging(min_events=20, max_events=60).slices(data, np.empty(0, np.int64))
    for first in slices.values():
        assert len(first.sequences) == 60
        assert first.sequences.ts.min() > np.median(data.sequences.ts)


def test_the_newest_last_events_of_users_who_have_an_earlier_one_are_held_out() -> None:
    sequences = training_data().sequences
    assert held_out_rows(sequences, 1.0, 1000).tolist() == [EVENTS * (user + 1) - 1 for user in range(USERS)]
    assert len(held_out_rows(sequences, 1.0, 5)) == 5
    alone = sequences.only(np.arange(len(sequences)) % EVENTS == 0)
    assert len(held_out_rows(alone, 1.0, 1000)) == 0


@pytest.mark.parametrize("new_since_ms", [0, 15_000])
def test_equal_random_states_merge_equally(new_since_ms: int) -> None:
    first, second = encoder(), encoder()
    for model in (first, second):
        torch.rand(3)  # whatever torch drew before
        merged(model, training_data(domains=2, new_since_ms=new_since_ms))
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
