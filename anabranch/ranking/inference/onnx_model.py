"""ONNX Runtime sessions with the same options for every model of a release."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from anabranch.release import ArtifactReader, ReleaseError

ROW_MULTIPLE = 16
"""`run_rows` pads to a multiple of this: the float32 lanes of the widest vector unit, AVX-512.

Kernels compute the rows that fill a vector unit with other instructions than the remainder, so that the last bits of a
row would depend on the number of rows. For exactly-once results a user's vector must not depend on the batching.
"""


class OnnxModel:
    """An ONNX model with the expected input and output names, and without external weights.

    Raises `ReleaseError` for any other file.
    """

    def __init__(
        self, files: ArtifactReader, name: str, inputs: tuple[str, ...], outputs: tuple[str, ...], threads: int = 1
    ) -> None:
        path = files.folder / name
        self._session = _session(path, files.read(name), threads)
        self._outputs = list(outputs)
        _require_names(path, "inputs", inputs, {value.name for value in self._session.get_inputs()})
        _require_names(path, "outputs", outputs, {value.name for value in self._session.get_outputs()})

    def run(self, **inputs: NDArray[Any]) -> list[NDArray[np.float32]]:
        """The outputs, in the order of the constructor's `outputs`."""
        return self._session.run(self._outputs, inputs)  # type: ignore[no-any-return]

    def run_rows(self, **inputs: NDArray[Any]) -> list[NDArray[np.float32]]:
        """As `run`, for a model whose rows are independent: a row's result is the same to the last bit for any number
        and content of the other rows. All inputs are [B, …]; B may be 0."""
        n = len(next(iter(inputs.values())))
        padding = -n % ROW_MULTIPLE or (ROW_MULTIPLE if n == 0 else 0)
        padded = {name: _pad(value, padding) for name, value in inputs.items()}
        return [output[:n] for output in self.run(**padded)]

    def last_dim(self, output: str) -> int:
        """The declared size of an output's last axis."""
        shape = next(value.shape for value in self._session.get_outputs() if value.name == output)
        return int(shape[-1])

    def input_width(self, name: str) -> int | None:
        """The declared size of an input's last axis; None if it takes any."""
        width = next(value.shape for value in self._session.get_inputs() if value.name == name)[-1]
        return width if isinstance(width, int) else None


def _session(path: Path, payload: bytes, threads: int) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Without this, external weights would be read from the working directory, and no digest covers them.
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", os.devnull)
    try:
        session = ort.InferenceSession(payload, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's errors have no other common class
        fault = "keeps weights in other files, which" if "external data" in str(error).lower() else "is a model that"
        raise ReleaseError(f"{path} {fault} cannot be loaded: {str(error).splitlines()[0]}") from error
    session._model_bytes = None  # frees the file's bytes, which the session keeps in case its providers change
    return session


def _pad(rows: NDArray[Any], padding: int) -> NDArray[Any]:
    return np.concatenate([rows, np.zeros((padding, *rows.shape[1:]), rows.dtype)]) if padding else rows


def _require_names(path: Path, kind: str, expected: tuple[str, ...], present: set[str]) -> None:
    missing = [name for name in expected if name not in present]
    if missing:
        raise ReleaseError(f"{path} has no {kind} {', '.join(missing)}; it has {', '.join(sorted(present))}")
