"""Whitening: text vectors crowd in one corner of their space; spread out, their cosines tell more."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Vectors = NDArray[np.float32]

SHRINKAGE = 0.05
"""Share of the widest direction's variance added to all, so that whitening does not blow up noise."""


def whitening(text_vectors: Vectors, dims: int) -> tuple[Tensor, Tensor]:
    """Mean [T] and matrix [T, dims] that give text vectors [n, T] like variance along their leading directions.

    Su et al., Whitening Sentence Representations for Better Semantics and Faster Retrieval, 2021. Scaled so that
    a whitened vector has length 1 on average. Where no text says anything, neither does the matrix: it is 0.
    """
    if not text_vectors.any():
        return torch.zeros(text_vectors.shape[1]), torch.zeros(text_vectors.shape[1], dims)
    mean = text_vectors.mean(axis=0)
    centred = text_vectors - mean
    variance, directions = np.linalg.eigh(centred.T @ centred / len(centred))  # ascending
    variance, directions = variance[::-1][:dims], directions[:, ::-1][:, :dims]
    matrix = directions / np.sqrt(variance + SHRINKAGE * variance[0])
    length = np.sqrt(np.square(centred @ matrix).sum(axis=1).mean())
    return torch.tensor(mean), torch.tensor(matrix / max(length, 1e-6), dtype=torch.float32)


def whitened_unit_vectors(text_vectors: Vectors, dims: int) -> Vectors:
    """Whitened text vectors of length 1, [n, dims]: their inner products are cosines."""
    mean, matrix = whitening(text_vectors, dims)
    white = (text_vectors - mean.numpy()) @ matrix.numpy()  # [n, dims]
    directions: Vectors = white / np.maximum(np.linalg.norm(white, axis=1, keepdims=True), 1e-6)
    return directions
