"""The encoder whose weights are set: exactly the decayed mean of whitened text vectors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from models.networks.decayed_mean import DECAY_PER_EVENT, decayed_mean_encoder
from models.networks.onnx_export import export_encoder

TEXT_DIMS, DIMS = 12, 4
WEEK_S = 7 * 86_400.0


def texts(n: int = 50) -> NDArray[np.float32]:
    return np.random.default_rng(0).normal(size=(n, TEXT_DIMS)).astype(np.float32)


@torch.no_grad()
def item_vectors(text_vectors: NDArray[np.float32], fitted_to: NDArray[np.float32]) -> NDArray[np.float32]:
    encoder = decayed_mean_encoder(fitted_to, DIMS)
    numbers = torch.zeros(len(text_vectors), dtype=torch.int64)
    return encoder.item(torch.from_numpy(text_vectors), numbers).numpy()


@torch.no_grad()
def test_a_user_vector_is_the_direction_of_the_decayed_sum_whatever_the_types_and_the_gaps() -> None:
    encoder = decayed_mean_encoder(texts(), DIMS)
    vectors = item_vectors(texts(5), texts())
    state = torch.zeros(1, DIMS)
    for event, vector in enumerate(vectors):
        gap, kind = torch.tensor([WEEK_S * event]), torch.tensor([event % 4])
        state, user = encoder.step.step(state, torch.from_numpy(vector[None]), kind, gap)
    weights = DECAY_PER_EVENT ** np.arange(len(vectors))[::-1]
    expected = weights @ vectors
    assert (user[0] / user[0].norm()).tolist() == pytest.approx(
        (expected / np.linalg.norm(expected)).tolist(), abs=1e-5
    )


def test_item_vectors_are_whitened_text_vectors_of_length_one() -> None:
    centred = texts() + 10  # a common direction, which whitening removes
    vectors = item_vectors(centred, centred)
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(1)
    assert np.abs(vectors.mean(axis=0)).max() < 0.2


def test_the_exported_files_agree_with_the_network(tmp_path: Path) -> None:
    assert max(export_encoder(decayed_mean_encoder(texts(), DIMS), tmp_path).values()) < 1e-4
