"""The list ranker of a release, order.onnx."""

from __future__ import annotations

from typing import Protocol

from anabranch.ranking.inference.onnx_model import OnnxModel
from anabranch.ranking.types import Positions, Vectors
from anabranch.release import ArtifactReader


class CandidateScorer(Protocol):
    """Scores candidates by their features; the highest scores make the slate."""

    def score(self, features: Vectors) -> Vectors:
        """Features [N, F] of any users' candidates → scores [N]."""


class OnnxListRanker:
    """The `CandidateScorer` of a release."""

    def __init__(self, files: ArtifactReader, threads: int = 1, columns: Positions | None = None) -> None:
        """It reads these `columns` of the features; None: all."""
        self._columns = slice(None) if columns is None else columns
        self._model = OnnxModel(files, "order.onnx", ("features",), ("scores",), threads)
        self.features = self._model.input_width("features")
        """Number of features that it reads; None if its file does not say."""

    def score(self, features: Vectors) -> Vectors:
        """Features [N, F] of any users' candidates → scores [N]. Runs lists of length 1, which need no padding."""
        return self._model.run_rows(features=features[:, None, self._columns])[0][:, 0]
