"""Text to vectors: an item's text, its tokens, the text transformer, and the item encoder on top."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from anabranch.messages import Item
from anabranch.ranking.index import Vectors
from anabranch.ranking.onnx import OnnxModel

MAX_TOKENS = 64
BATCH = 64


def item_text(item: Item) -> str:
    """What the text transformer reads of an item."""
    parts = [item.title, item.brand, " > ".join(item.category), item.description]
    return ". ".join(part for part in parts if part)


class TextEncoder:
    """text.onnx and its tokenizer: text → text vector [T]."""

    def __init__(self, folder: Path, threads: int = 1) -> None:
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.enable_truncation(MAX_TOKENS)
        self._tokenizer.enable_padding()
        self._model = OnnxModel(folder / "text.onnx", ("input_ids", "attention_mask"), ("text_vector",), threads)
        self.dims = self._model.last_dim("text_vector")

    def encode(self, texts: Sequence[str], done: Callable[[int], None] = lambda n: None) -> Vectors:
        """Text vectors [n, T]; texts of like length share a batch. `done(n)` is told of every n texts done."""
        vectors = np.empty((len(texts), self.dims), np.float32)
        by_length = np.argsort([len(text) for text in texts], kind="stable")
        for start in range(0, len(texts), BATCH):
            batch = by_length[start : start + BATCH]
            vectors[batch] = self._encode_batch([texts[at] for at in batch])
            done(len(batch))
        return vectors

    def _encode_batch(self, texts: list[str]) -> Vectors:
        tokens = self._tokenizer.encode_batch(texts)
        return self._model.run(
            input_ids=np.array([one.ids for one in tokens], np.int64),
            attention_mask=np.array([one.attention_mask for one in tokens], np.int64),
        )[0]


class ItemEncoder:
    """item.onnx: text vector and the item's learned residual → item vector [d]."""

    def __init__(self, folder: Path, threads: int = 1) -> None:
        self._model = OnnxModel(folder / "item.onnx", ("text_vector", "item_number"), ("item_vector",), threads)
        self._numbers = msgspec.json.decode((folder / "items.json").read_bytes(), type=dict[str, int])

    def encode(self, item_ids: Sequence[str], text_vectors: Vectors) -> Vectors:
        """Item vectors [n, d]; an item the release has not learned is its text alone."""
        numbers: NDArray[np.int64] = np.array([self._numbers.get(item_id, 0) for item_id in item_ids], np.int64)
        return self._model.run(text_vector=text_vectors, item_number=numbers)[0]

    def encode_text(self, text_vectors: Vectors) -> Vectors:
        """Vectors [n, d] of texts that are no item: queries."""
        return self._model.run(text_vector=text_vectors, item_number=np.zeros(len(text_vectors), np.int64))[0]
