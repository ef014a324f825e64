"""The text seed: what reads like what the user chose lately. It alone knows items nobody has bought yet."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from models.log import EventLog
from models.seeds.seed import Done, Lesson, Vectors, top
from models.sequences import Contexts
from models.text import whitening


@dataclass
class TextSeed:
    """Cosine of whitened text vectors to a fading mean of the recent items."""

    dims: int = 128
    recent: int = 10
    fading: float = 0.8
    """Weight of an item against the one after it."""
    name: str = "text"
    _vectors: Vectors = field(init=False, repr=False)

    def fit(self, log: EventLog, text_vectors: Vectors, done: Done) -> None:
        """Whiten the catalogue's text vectors; the log is not read."""
        mean, matrix = whitening(text_vectors, self.dims)
        white = (text_vectors - mean.numpy()) @ matrix.numpy()  # [C, dims]
        self._vectors = white / np.maximum(np.linalg.norm(white, axis=1, keepdims=True), 1e-6)
        done(1.0)

    def teach(self, contexts: Contexts, k: int) -> Lesson:
        """Confidence: the mean cosine of the list to the recent items."""
        recent = contexts.recent[:, : self.recent]
        weights = np.where(recent >= 0, self.fading ** np.arange(recent.shape[1]), 0).astype(np.float32)
        means = np.einsum("br,brd->bd", weights, self._vectors[recent])  # [B, dims]
        means /= np.maximum(np.linalg.norm(means, axis=1, keepdims=True), 1e-6)
        scores = means @ self._vectors.T  # [B, C]
        items = top(scores, k)
        confidence = np.take_along_axis(scores, np.maximum(items, 0), axis=1).mean(axis=1)
        return Lesson(items, np.clip(confidence, 0, 1).astype(np.float32))
