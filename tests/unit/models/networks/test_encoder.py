from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from models.networks.encoder import EncoderConfig, SharedEncoder, scan

CONFIG = EncoderConfig(items=5, text_dims=12, white_dims=8, dims=8, state_dims=16)


def encoder() -> SharedEncoder:
    torch.manual_seed(0)
    model = SharedEncoder(CONFIG)
    model.item.whitening.copy_(torch.randn(12, 8))
    return model.eval()


def test_the_scan_is_the_recurrence() -> None:
    decay, update = torch.rand(2, 7, 3), torch.randn(2, 7, 3)
    state = torch.zeros(2, 3)
    for event in range(7):
        state = decay[:, event] * state + update[:, event]
    torch.testing.assert_close(scan(decay, update)[:, -1], state)


@torch.no_grad()
def test_whole_windows_give_the_user_vectors_of_single_steps() -> None:
    step = encoder().step
    vectors, types, seconds = torch.randn(3, 9, 8), torch.randint(0, 4, (3, 9)), torch.rand(3, 9) * 1e6
    parallel = step(vectors, types, seconds)
    state = torch.zeros(3, CONFIG.state_dims)
    for event in range(9):
        state, user = step.step(state, vectors[:, event], types[:, event], seconds[:, event])
        torch.testing.assert_close(user, parallel[:, event], atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_a_user_vector_does_not_depend_on_later_events() -> None:
    step = encoder().step
    vectors, types, seconds = torch.randn(1, 6, 8), torch.zeros(1, 6, dtype=torch.int64), torch.zeros(1, 6)
    before = step(vectors, types, seconds)[:, :3]
    vectors[:, 3:] = 0
    torch.testing.assert_close(step(vectors, types, seconds)[:, :3], before)


@torch.no_grad()
def test_item_vectors_have_length_1_and_an_item_without_residual_is_its_text_only() -> None:
    item = encoder().item
    text = torch.randn(1, 12).repeat(3, 1)
    vectors = item(text, torch.tensor([0, 1, 2]))
    torch.testing.assert_close(vectors.norm(dim=-1), torch.ones(3))
    assert not torch.equal(vectors[0], vectors[1])
    item.residual.weight[0] = 100.0
    torch.testing.assert_close(item(text, torch.tensor([0, 1, 2])), vectors)


@torch.no_grad()
def test_the_state_stays_bounded_over_ten_thousand_events() -> None:
    step = encoder().step
    state = torch.zeros(1, CONFIG.state_dims)
    vector, type, seconds = torch.ones(1, 8) / 8**0.5, torch.zeros(1, dtype=torch.int64), torch.zeros(1)
    for _ in range(10_000):
        state, user = step.step(state, vector, type, seconds)
    assert state.abs().max() < 1000
    assert user.isfinite().all()


@torch.no_grad()
def test_a_child_starts_with_its_parents_vectors_and_room_for_more_items() -> None:
    parent, child = encoder(), SharedEncoder(replace(CONFIG, items=9)).eval()
    child.inherit(parent.state_dict())
    text, numbers = torch.randn(5, 12), torch.arange(5)
    assert torch.equal(child.item(text, numbers), parent.item(text, numbers))
    assert len(child.item.residual.weight) == 9


def test_a_parent_of_another_size_is_an_error_that_names_the_weight() -> None:
    with pytest.raises(RuntimeError, match=r"step\.input_term\.weight"):
        SharedEncoder(replace(CONFIG, state_dims=8)).inherit(encoder().state_dict())
