"""Item vectors: the text of an item, its text vector by a transformer, and the item encoder on top."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from anabranch.messages import Item
from anabranch.ranking.inference.onnx_model import OnnxModel
from anabranch.ranking.types import Vectors
from anabranch.release import ArtifactReader, ReleaseError

MAX_TOKENS = 64
"""Longer texts are truncated."""


def item_text(item: Item) -> str:
    """The text of an item that is encoded: title, brand, category path and description."""
    parts = [item.title, item.brand, " > ".join(item.category), item.description]
    return ". ".join(part for part in parts if part)


class TextEncoder:
    """text.onnx and its tokenizer: text → text vector [T]."""

    def __init__(self, files: ArtifactReader, threads: int = 1) -> None:
        self._tokenizer = _tokenizer(files)
        self._tokenizer.enable_truncation(MAX_TOKENS)
        self._tokenizer.no_padding()
        self._model = OnnxModel(files, "text.onnx", ("input_ids", "attention_mask"), ("text_vector",), threads)
        self.dims = self._model.last_dim("text_vector")

    def encode(self, texts: Sequence[str], done: Callable[[int], None] = lambda n: None) -> Vectors:
        """Text vectors [n, T], zero for an empty text. Calls `done(n)` after every n texts.

        Runs one text at a time: a quantised transformer scales activations by the largest of the whole batch, so that a
        text's vector would depend on the other texts (cosine 0.98 to 1 between the two). It is no slower, as nothing is
        padded.
        """
        vectors = np.zeros((len(texts), self.dims), np.float32)
        for index, text in enumerate(texts):
            done(1)
            if not text:
                continue
            tokens = self._tokenizer.encode(text)
            vectors[index] = self._model.run(
                input_ids=np.array([tokens.ids], np.int64),
                attention_mask=np.array([tokens.attention_mask], np.int64),
            )[0][0]
        return vectors


class OnnxItemEncoder:
    """item.onnx: text vector and the item's learned residual → item vector [d]."""

    def __init__(self, files: ArtifactReader, threads: int = 1) -> None:
        self._model = OnnxModel(files, "item.onnx", ("text_vector", "item_number"), ("item_vector",), threads)
        self._numbers = item_numbers(files)

    def encode(self, item_ids: Sequence[str], text_vectors: Vectors) -> Vectors:
        """Item vectors [n, d]; those of items that the release was not trained on depend on their text alone."""
        numbers: NDArray[np.int64] = np.array([self._numbers.get(item_id, 0) for item_id in item_ids], np.int64)
        return self._model.run_rows(text_vector=text_vectors, item_number=numbers)[0]

    def encode_text(self, text_vectors: Vectors) -> Vectors:
        """Vectors [n, d] of search queries, which have no item."""
        numbers = np.zeros(len(text_vectors), np.int64)
        return self._model.run_rows(text_vector=text_vectors, item_number=numbers)[0]


def item_numbers(files: ArtifactReader) -> dict[str, int]:
    """The row of each item's residual in item.onnx, from 1; row 0 is for items that the release was not trained on."""
    try:
        return msgspec.json.decode(files.read("items.json"), type=dict[str, int])
    except msgspec.DecodeError as error:
        raise ReleaseError(f"{files.folder / 'items.json'}: {error}") from error


def _tokenizer(files: ArtifactReader) -> Tokenizer:
    try:
        return Tokenizer.from_buffer(files.read("tokenizer.json"))
    except ValueError as error:
        raise ReleaseError(f"{files.folder / 'tokenizer.json'}: {error}") from error
