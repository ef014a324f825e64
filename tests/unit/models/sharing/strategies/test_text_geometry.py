"""Where the vector of a new item starts: at its text, in a first release and in every child."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from models.networks.encoder import EncoderConfig, SharedEncoder
from models.sharing.strategies.text_geometry import TextGeometry
from models.sharing.strategy import TrainingData
from models.sharing.training import train
from tests.support.training_data import TRAINING, training_data

ITEMS, NEW = 60, 40
CONFIG = EncoderConfig(items=ITEMS + 1, text_dims=12, white_dims=12, dims=12, state_dims=16)


def data(text: bool) -> TrainingData:
    return replace(training_data(items=ITEMS, text=text), numbers=np.arange(1, ITEMS + 1))


def first_release(text: bool) -> SharedEncoder:
    """The encoder right before it is trained."""
    torch.manual_seed(0)
    encoder = SharedEncoder(CONFIG)
    TextGeometry().prepare(encoder, data(text), np.random.default_rng(0), lambda share: None)
    return encoder.eval()


def child(text: bool) -> SharedEncoder:
    """The child of a trained release, with `NEW` more items."""
    parent = first_release(text)
    train(parent, data(text), [], TRAINING, random_seed=0)
    torch.manual_seed(1)
    encoder = SharedEncoder(replace(CONFIG, items=ITEMS + 1 + NEW))
    encoder.inherit(parent.state_dict())
    return encoder.eval()


@torch.no_grad()
def cosine_to_text(encoder: SharedEncoder, first: int) -> float:
    """Mean cosine of the items from number `first` on to the vector that their text alone gives them."""
    numbers = torch.arange(first, encoder.config.items)
    text = data(True).text_vectors[:NEW][: len(numbers)]
    numbers = numbers[: len(text)]
    return float(F.cosine_similarity(encoder.item(text, numbers), encoder.item(text, torch.zeros_like(numbers))).mean())


@torch.no_grad()
def mean_length(encoder: SharedEncoder, first: int) -> float:
    return float(encoder.item.residual.weight[first:].norm(dim=1).mean())


def test_an_item_of_a_first_release_starts_at_its_text() -> None:
    encoder = first_release(text=True)
    assert mean_length(encoder, 1) == pytest.approx(CONFIG.residual_length, rel=0.1)
    assert cosine_to_text(encoder, 1) > 0.98


def test_a_new_item_of_a_child_starts_at_its_text_as_in_a_first_release() -> None:
    encoder = child(text=True)
    assert mean_length(encoder, ITEMS + 1) == pytest.approx(CONFIG.residual_length, rel=0.1)
    assert cosine_to_text(encoder, ITEMS + 1) > 0.98


def test_without_texts_a_residual_is_the_whole_vector_and_starts_at_length_1() -> None:
    assert mean_length(first_release(text=False), 1) == pytest.approx(1, rel=0.1)
    assert mean_length(child(text=False), ITEMS + 1) == pytest.approx(1, rel=0.1)


def test_a_childs_new_items_start_apart_from_each_other() -> None:
    """Equal starts could not be told apart where many items have one text, or none."""
    new = child(text=True).item.residual.weight[ITEMS + 1 :]
    assert len(torch.unique(new, dim=0)) == NEW


def test_the_number_of_items_without_residual_stays_without() -> None:
    assert not first_release(text=True).item.residual.weight[0].any()
    assert not child(text=True).item.residual.weight[0].any()


def test_a_child_keeps_its_parents_whitening_and_finds_no_distinct_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = child(text=True)
    whitening = encoder.item.whitening.clone()
    of_child = replace(data(text=True), text_vectors=data(text=True).text_vectors + 1, new_since_ms=1)
    monkeypatch.setattr(np, "unique", lambda *_, **__: pytest.fail("it takes seconds for 100,000 texts"))
    TextGeometry().prepare(encoder, of_child, np.random.default_rng(0), lambda share: None)
    assert encoder.item.residual_dropout == TextGeometry().residual_dropout
    torch.testing.assert_close(encoder.item.whitening, whitening, rtol=0, atol=0)
