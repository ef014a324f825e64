"""The optional purchase head of a release, purchase.onnx."""

from __future__ import annotations

from anabranch.ranking.inference.onnx_model import OnnxModel
from anabranch.ranking.types import Positions, Vectors
from anabranch.release import PURCHASE_HEAD, ArtifactReader


class OnnxPurchaseHead:
    """Purchase probabilities within the manifest's horizon, from the features of the list ranker."""

    def __init__(self, files: ArtifactReader, threads: int = 1, columns: Positions | None = None) -> None:
        """It reads these `columns` of the features; None: all."""
        self._columns = slice(None) if columns is None else columns
        self._model = OnnxModel(files, PURCHASE_HEAD, ("features",), ("probability",), threads)
        self.features = self._model.input_width("features")
        """Number of features that it reads; None if its file does not say."""

    def probability(self, features: Vectors) -> Vectors:
        """Features [B, K, F] → probability of a purchase [B, K], 0 to 1."""
        return self._model.run(features=features[..., self._columns])[0]
