"""ONNX Runtime sessions, made one way everywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from anabranch.release import ReleaseError

ROWS = 16
"""Rows are computed in multiples of this: the float32 lanes of the widest vector unit, AVX-512.

A matrix product or an element-wise function computes the rows that fill its vector unit one way and those left over
another, so that the last bits of a row would depend on how many rows it has for company. Exactly once, a user's vector
must not depend on how events fell into batches.
"""


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

    def run_rows(self, **inputs: NDArray[Any]) -> list[NDArray[np.float32]]:
        """As `run`, for a model that treats its rows apart: each row's result is the same to the last bit whatever
        the other rows are, and however many. Inputs are [B, …] all, B may be 0."""
        n = len(next(iter(inputs.values())))
        short = -n % ROWS or (ROWS if n == 0 else 0)
        padded = {name: _pad(value, short) for name, value in inputs.items()}
        return [output[:n] for output in self.run(**padded)]

    def last_dim(self, output: str) -> int:
        """The declared size of an output's last axis."""
        shape = next(value.shape for value in self._session.get_outputs() if value.name == output)
        return int(shape[-1])


def _pad(rows: NDArray[Any], short: int) -> NDArray[Any]:
    return np.concatenate([rows, np.zeros((short, *rows.shape[1:]), rows.dtype)]) if short else rows


def _expect(path: Path, what: str, contract: tuple[str, ...], present: set[str]) -> None:
    missing = [name for name in contract if name not in present]
    if missing:
        raise ReleaseError(f"{path} has no {what} {', '.join(missing)}; it has {', '.join(sorted(present))}")
