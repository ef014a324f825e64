"""ONNX Runtime sessions, made one way everywhere."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from anabranch.release import ArtifactReader, ReleaseError

ROWS = 16
"""Rows are computed in multiples of this: the float32 lanes of the widest vector unit, AVX-512.

A matrix product or an element-wise function computes the rows that fill its vector unit one way and those left over
another, so that the last bits of a row would depend on how many rows it has for company. Exactly once, a user's vector
must not depend on how events fell into batches.
"""


class OnnxModel:
    """An ONNX file whose inputs and outputs have the contract's names, and that holds all its weights itself."""

    def __init__(
        self, files: ArtifactReader, name: str, inputs: tuple[str, ...], outputs: tuple[str, ...], threads: int = 1
    ) -> None:
        path = files.folder / name
        self._session = _session(path, files.read(name), threads)
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


def _session(path: Path, payload: bytes, threads: int) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Weights in other files would be looked for in the working directory, and no digest covers them; here are none.
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", os.devnull)
    try:
        session = ort.InferenceSession(payload, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's errors share no other class
        what = "keeps weights in other files, which" if "external data" in str(error).lower() else "is a model that"
        raise ReleaseError(f"{path} {what} cannot be loaded: {str(error).splitlines()[0]}") from error
    session._model_bytes = None  # it would keep them for a change of providers, as long as it lives
    return session


def _pad(rows: NDArray[Any], short: int) -> NDArray[Any]:
    return np.concatenate([rows, np.zeros((short, *rows.shape[1:]), rows.dtype)]) if short else rows


def _expect(path: Path, what: str, contract: tuple[str, ...], present: set[str]) -> None:
    missing = [name for name in contract if name not in present]
    if missing:
        raise ReleaseError(f"{path} has no {what} {', '.join(missing)}; it has {', '.join(sorted(present))}")
