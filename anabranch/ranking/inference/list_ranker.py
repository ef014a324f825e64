"""order.onnx: the learned ranking of candidates."""

from __future__ import annotations

from anabranch.ranking.inference.onnx_model import OnnxModel
from anabranch.ranking.types import Vectors
from anabranch.release import ArtifactReader


class OnnxListRanker:
    """Scores candidates by their features."""

    def __init__(self, files: ArtifactReader, threads: int = 1) -> None:
        self._model = OnnxModel(files, "order.onnx", ("features",), ("scores",), threads)

    def score(self, features: Vectors) -> Vectors:
        """Features [N, F] of candidates, whosever they are → scores [N]: each as a list of one, so none is padded."""
        return self._model.run_rows(features=features[:, None])[0][:, 0]
