"""step.onnx and order.onnx: what moves a user's vector, and what puts candidates in order."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from anabranch.ranking.index_base import Vectors
from anabranch.ranking.onnx import OnnxModel
from anabranch.release import Files


class StepEncoder:
    """The O(1) step of the shared encoder."""

    def __init__(self, files: Files, threads: int = 1) -> None:
        self._model = OnnxModel(
            files,
            "step.onnx",
            ("state", "input_vector", "event_type", "seconds_since"),
            ("next_state", "user_vector"),
            threads,
        )

    def step(
        self,
        state: Vectors,
        input_vectors: Vectors,
        types: NDArray[np.uint8],
        seconds_since: NDArray[np.float32],
    ) -> tuple[Vectors, Vectors]:
        """(state [B, S], item or query vectors [B, d], event types [B], seconds since the last event [B])
        → (next state [B, S], user vectors [B, d]), each row the same whatever its company."""
        next_state, user_vectors = self._model.run_rows(
            state=state,
            input_vector=input_vectors,
            event_type=types.astype(np.int64),
            seconds_since=seconds_since,
        )
        return next_state, user_vectors


class Order:
    """The learned order over candidates."""

    def __init__(self, files: Files, threads: int = 1) -> None:
        self._model = OnnxModel(files, "order.onnx", ("features",), ("scores",), threads)

    def score(self, features: Vectors) -> Vectors:
        """Features [N, F] of candidates, whosever they are → scores [N]: each as a list of one, so none is padded."""
        return self._model.run_rows(features=features[:, None])[0][:, 0]
