from __future__ import annotations

import numpy as np
import pytest

from models.networks.whitening import whitened_unit_vectors, whitening
from models.seeds.seed_model import Vectors


def whitened(vectors: Vectors) -> Vectors:
    mean, matrix = whitening(vectors, 4)
    result: Vectors = (vectors - mean.numpy()) @ matrix.numpy()
    return result


def test_whitened_vectors_have_length_1_on_average() -> None:
    vectors = np.random.default_rng(0).normal(size=(50, 6)).astype(np.float32)
    assert np.square(whitened(vectors)).sum(axis=1).mean() == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("vectors", [np.zeros((3, 6)), np.full((1, 6), 0.3), np.tile(np.linspace(0.1, 0.7, 6), (9, 1))])
def test_equal_vectors_are_whitened_to_0_and_not_to_noise(vectors: Vectors) -> None:
    """A catalogue of one item, or one in which all items have the same text."""
    assert not whitened(vectors.astype(np.float32)).any()
    assert not whitened_unit_vectors(vectors.astype(np.float32), 4).any()
