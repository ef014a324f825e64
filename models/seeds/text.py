"""The text seed: what reads like what the user chose lately. It alone knows items nobody has bought yet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from models.data.event_log import EventLog
from models.data.sequences import Contexts
from models.networks.text_adapter import adapt
from models.networks.text_transformer import TextConfig, load_transformer
from models.networks.whitening import whitened_unit_vectors
from models.seeds.seed_model import TopK, Vectors, top
from models.stages import Done


@dataclass(frozen=True)
class OwnTransformer:
    """A text transformer that reads for one seed alone, adapted to the log if its configuration says so."""

    texts: Sequence[str]
    """[C], of the catalogue's items."""
    config: TextConfig = field(default_factory=TextConfig)
    random_seed: int = 0

    def read(self, log: EventLog, done: Done) -> Vectors:
        """Text vectors [C, T]."""
        transformer = load_transformer(self.config.model)
        transformer = adapt(transformer, self.texts, log, self.config, self.random_seed, lambda share: done(share / 2))
        return transformer.encode(self.texts, lambda n: done(n / len(self.texts) / 2))


@dataclass
class TextSeedModel:
    """Cosine of whitened text vectors to a fading mean of the recent items."""

    dims: int = 128
    recent: int = 10
    recency_decay: float = 0.8
    """Weight of an item against the one after it."""
    own: OwnTransformer | None = None
    """None: the vectors it is given are read."""
    name: str = "text"
    _vectors: Vectors = field(init=False, repr=False)

    def fit(self, log: EventLog, text_vectors: Vectors, done: Done) -> None:
        """Whiten the catalogue's text vectors; the log is read by a transformer of its own alone."""
        if self.own is None:
            done(1.0)
        elif len(self.own.texts) != len(text_vectors):
            raise ValueError(
                f"`texts` has {len(self.own.texts)} items, the catalogue {len(text_vectors)}: give it whole"
            )
        else:
            text_vectors = self.own.read(log, done)
        self._vectors = whitened_unit_vectors(text_vectors, self.dims)  # [C, dims]

    def predict_top_k(self, contexts: Contexts, k: int) -> TopK:
        """Confidence: the mean cosine of the list to the recent items."""
        recent = contexts.recent[:, : self.recent]
        weights = np.where(recent >= 0, self.recency_decay ** np.arange(recent.shape[1]), 0).astype(np.float32)
        means = np.einsum("br,brd->bd", weights, self._vectors[recent])  # [B, dims]
        means /= np.maximum(np.linalg.norm(means, axis=1, keepdims=True), 1e-6)
        scores = means @ self._vectors.T  # [B, C]
        items = top(scores, k)
        confidence = np.take_along_axis(scores, np.maximum(items, 0), axis=1).mean(axis=1)
        return TopK(items, np.clip(confidence, 0, 1).astype(np.float32))
