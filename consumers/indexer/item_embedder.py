"""Embeds items with the models of one release."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from anabranch.metrics import Stopwatch
from anabranch.ranking.inference.item_encoder import OnnxItemEncoder, TextEncoder
from anabranch.ranking.types import Vectors
from anabranch.release import Release
from anabranch.settings import Settings
from anabranch.text_embedding_cache import TextEmbeddingCache
from consumers.indexer.metrics import IndexerMetrics


class ItemEmbedder:
    """Embeds texts with text.onnx, through the text embedding cache, and then items with item.onnx."""

    def __init__(self, settings: Settings, files: Release, metrics: IndexerMetrics) -> None:
        self.manifest = files.manifest
        self._metrics = metrics
        self._text = TextEncoder(files, settings.threads)
        self._item = OnnxItemEncoder(files, settings.threads)
        self._text_cache = TextEmbeddingCache.for_release(settings.data_dir, self.manifest)

    def has_cached(self, text: str) -> bool:
        """Whether the text's vector is in the cache, so that the transformer need not run."""
        return text in self._text_cache

    def vectors(self, item_ids: Sequence[str], texts: Sequence[str]) -> Vectors:
        """Item vectors [n, d], in the order of the ids; n may be 0."""
        if not item_ids:
            return np.empty((0, self.manifest.dims), np.float32)
        stopwatch = Stopwatch(self._metrics.stage)
        lap = stopwatch.start_timer()
        text_vectors = self._text_cache.get(texts, self._text.encode)
        lap("text")
        vectors = self._item.encode(item_ids, text_vectors)
        lap("item")
        stopwatch.record()
        return vectors
