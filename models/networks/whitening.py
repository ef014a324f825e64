"""Whitening: text vectors are concentrated in a few directions; after whitening, cosines separate them better.

scikit-learn's `PCA(whiten=True)` has no shrinkage, and it chooses signs of the directions by another rule, which would
change the first item vectors of every release. So the decomposition is numpy's.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Vectors = NDArray[np.float32]

SHRINKAGE = 0.05
"""This share of the largest variance is added to every direction's variance, so that noise is not amplified."""
MIN_LENGTH = 1e-6
MIN_VARIANCE = 1e-10
"""Vectors whose largest variance is below this share of their mean square are equal but for rounding."""


def whitening(text_vectors: Vectors, dims: int) -> tuple[Tensor, Tensor]:
    """Mean [T] and matrix [T, dims] that map text vectors [n, T] to their leading directions with similar variance.

    Su et al., Whitening Sentence Representations for Better Semantics and Faster Retrieval, 2021. The matrix is scaled
    so that whitened vectors have length 1 on average (root mean square). If all vectors are equal, it is 0.
    """
    if not text_vectors.any():
        return torch.zeros(text_vectors.shape[1]), torch.zeros(text_vectors.shape[1], dims)
    mean = text_vectors.mean(axis=0)
    centred = text_vectors - mean
    variance, directions = np.linalg.eigh(centred.T @ centred / len(centred))  # ascending
    variance, directions = variance[::-1][:dims], directions[:, ::-1][:, :dims]
    if variance[0] <= MIN_VARIANCE * np.square(text_vectors).sum(axis=1).mean():
        return torch.tensor(mean), torch.zeros(directions.shape)
    matrix = directions / np.sqrt(variance + SHRINKAGE * variance[0])
    length = np.sqrt(np.square(centred @ matrix).sum(axis=1).mean())
    return torch.tensor(mean), torch.tensor(matrix / max(length, MIN_LENGTH), dtype=torch.float32)


def whitened_unit_vectors(text_vectors: Vectors, dims: int) -> Vectors:
    """Whitened text vectors [n, T] scaled to length 1, [n, dims]; their inner products are cosines."""
    mean, matrix = whitening(text_vectors, dims)
    white = (text_vectors - mean.numpy()) @ matrix.numpy()  # [n, dims]
    unit: Vectors = white / np.maximum(np.linalg.norm(white, axis=1, keepdims=True), MIN_LENGTH)
    return unit
