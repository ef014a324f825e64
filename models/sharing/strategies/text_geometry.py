"""Text geometry: an item vector starts as the item's whitened text vector; a learned residual is added to it.

Su et al., Whitening Sentence Representations for Better Semantics and Faster Retrieval, 2021 (the text side); Volkovs,
Yu and Poutanen, DropoutNet: Addressing Cold Start in Recommender Systems, NeurIPS 2017 (dropping residuals while
training, so that an item without one is ranked well by its text).
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
    """Sets the text side of a new encoder. A child keeps its parent's, so that item vectors stay comparable."""

    residual_dropout: float = 0.25
    """Share of the residuals that are left out at each training step."""

    @property
    def name(self) -> str:
        """See `Strategy`."""
        return "text_geometry"

    def describe(self) -> dict[str, Any]:
        """See `Strategy`."""
        return stored_settings(self)

    def measured(self) -> dict[str, float]:
        """Nothing: the metrics on cold items show the effect."""
        return {}

    @torch.no_grad()
    def prepare(self, encoder: SharedEncoder, data: TrainingData, random: np.random.Generator, done: Done) -> None:
        """Whiten the catalogue's distinct texts. Without texts nothing changes."""
        texts = data.text_vectors.numpy()
        if not texts.any():
            return
        encoder.item.residual_dropout = self.residual_dropout
        if data.new_since_ms:
            return
        mean, matrix = whitening(np.unique(texts, axis=0), encoder.config.white_dims)
        encoder.item.text_mean.copy_(mean)
        encoder.item.whitening[:, : matrix.shape[1]] = matrix  # text vectors may have fewer dimensions
        encoder.item.draw_residuals()
        done(1.0)
