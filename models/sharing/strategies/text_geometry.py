"""Text-to-id geometry: an item begins as what its text says, and a learned residual tells it apart.

Su et al., Whitening Sentence Representations for Better Semantics and Faster Retrieval, 2021 (the text side); Volkovs,
Yu and Poutanen, DropoutNet: Addressing Cold Start in Recommender Systems, NeurIPS 2017 (a residual that is left out
now and then, so that an item nobody has learned is ranked by its text as if it had been).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from models.networks.encoder import SharedEncoder
from models.networks.stored_names import stored_settings
from models.networks.whitening import whitening
from models.sharing.strategy import TrainingData
from models.stages import Done


@dataclass(frozen=True)
class TextGeometry:
    """Fixes the text side of a new encoder. A child keeps its parent's, so that old vectors stay where they are."""

    residual_scale: float = 0.1
    """Length of a new residual against a whitened text vector's, 1."""
    residual_dropout: float = 0.25
    """Share of the residuals that are left out while training."""

    @property
    def name(self) -> str:
        """As the manifest names it."""
        return "text_geometry"

    def describe(self) -> dict[str, Any]:
        """Settings, for the manifest."""
        return stored_settings(self)

    def measured(self) -> dict[str, float]:
        """Nothing: the slices of cold items tell."""
        return {}

    @torch.no_grad()
    def prepare(self, encoder: SharedEncoder, data: TrainingData, random: np.random.Generator, done: Done) -> None:
        """Whiten the catalogue's texts, each counted once. Where there are none, nothing changes."""
        texts = np.unique(data.text_vectors.numpy(), axis=0)
        if not texts.any():
            return
        encoder.item.residual_dropout = self.residual_dropout
        if data.new_since_ms:
            return
        mean, matrix = whitening(texts, encoder.config.white_dims)
        encoder.item.text_mean.copy_(mean)
        encoder.item.whitening[:, : matrix.shape[1]] = matrix  # text vectors may have fewer directions
        encoder.item.residual.weight.mul_(self.residual_scale)
        done(1.0)
