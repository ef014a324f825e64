"""The text seed model: items with texts similar to the recent items'. Only this one covers items without events."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from models.data.event_log import EventLog
from models.data.sequences import Contexts
from models.networks.text_adapter import adapt
from models.networks.text_transformer import TextConfig, load_transformer
from models.networks.whitening import whitened_unit_vectors
from models.seeds.seed_model import TopK, Vectors, top_k_items
from models.stages import Done

MIN_LENGTH = 1e-6


@dataclass(frozen=True)
class OwnTransformer:
    """A text transformer for one seed model only, fine-tuned on the log if its configuration says so."""

    texts: Sequence[str]
    """[C], of the catalogue's items."""
    config: TextConfig = field(default_factory=TextConfig)
    random_seed: int = 0

    def encode(self, log: EventLog, done: Done) -> Vectors:
        """Text vectors [C, T]."""
        transformer = load_transformer(self.config.model)
        transformer = adapt(transformer, self.texts, log, self.config, self.random_seed, lambda share: done(share / 2))
        return transformer.encode(self.texts, lambda n: done(n / len(self.texts) / 2))


@dataclass
class TextSeedModel:
    """Scores an item by the cosine of its whitened text vector to a weighted mean of the recent items'."""

    dims: int = 128
    """Leading directions of the whitened text vectors that are compared."""
    recent: int = 10
    """Newest items of a prediction point that are used."""
    recency_decay: float = 0.8
    """Weight of an item relative to the next newer one."""
    own: OwnTransformer | None = None
    """None: the text vectors given to `fit` are used."""
    name: str = "text"
    _vectors: Vectors = field(init=False, repr=False)

    def fit(self, log: EventLog, text_vectors: Vectors, done: Done) -> None:
        """Whiten the catalogue's text vectors. The log is used only to fine-tune an own transformer."""
        if self.own is None:
            done(1.0)
        elif len(self.own.texts) != len(text_vectors):
            raise ValueError(
                f"`texts` has {len(self.own.texts)} items, the catalogue {len(text_vectors)}: it needs one per item"
            )
        else:
            text_vectors = self.own.encode(log, done)
        self._vectors = whitened_unit_vectors(text_vectors, self.dims)  # [C, dims]

    def predict_top_k(self, contexts: Contexts, k: int) -> TopK:
        """See `SeedModel`. Confidence: the list's mean cosine to the recent items, at least 0."""
        recent = contexts.recent[:, : self.recent]
        weights = np.where(recent >= 0, self.recency_decay ** np.arange(recent.shape[1]), 0).astype(np.float32)
        means = np.einsum("br,brd->bd", weights, self._vectors[recent])  # [B, dims]
        means /= np.maximum(np.linalg.norm(means, axis=1, keepdims=True), MIN_LENGTH)
        scores = means @ self._vectors.T  # [B, C]
        items = top_k_items(scores, k)
        confidence = np.take_along_axis(scores, np.maximum(items, 0), axis=1).mean(axis=1)
        return TopK(items, np.clip(confidence, 0, 1).astype(np.float32))
