"""ONNX Runtime sessions, made one way everywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from anabranch.release import ReleaseError


class OnnxModel:
    """An ONNX file whose inputs and outputs have the contract's names."""

    def __init__(self, path: Path, inputs: tuple[str, ...], outputs: tuple[str, ...], threads: int = 1) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        self._session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self._outputs = list(outputs)
        _expect(path, "inputs", inputs, {value.name for value in self._session.get_inputs()})
        _expect(path, "outputs", outputs, {value.name for value in self._session.get_outputs()})

    def run(self, **inputs: NDArray[Any]) -> list[NDArray[np.float32]]:
        """The outputs, in the order given at construction."""
        return self._session.run(self._outputs, inputs)  # type: ignore[no-any-return]

    def last_dim(self, output: str) -> int:
        """The declared size of an output's last axis."""
        shape = next(value.shape for value in self._session.get_outputs() if value.name == output)
        return int(shape[-1])


def _expect(path: Path, what: str, contract: tuple[str, ...], present: set[str]) -> None:
    missing = [name for name in contract if name not in present]
    if missing:
        raise ReleaseError(f"{path} has no {what} {', '.join(missing)}; it has {', '.join(sorted(present))}")
