"""The ONNX seed: an encoder from elsewhere, which meets the contract of a release, as a teacher."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from onnxruntime.capi.onnxruntime_pybind11_state import InvalidArgument

from anabranch.ranking.inference.item_encoder import ItemEncoder
from anabranch.ranking.inference.user_encoder import StepEncoder
from anabranch.release import Draft, ReleaseError
from models.data.event_log import EventLog
from models.data.sequences import Contexts
from models.seeds.seed_model import TopK, Vectors, top
from models.stages import Done


class _Step(StepEncoder):
    """The step as it serves, and the size of its state as the file declares it."""

    @property
    def state_dims(self) -> int:
        return self._model.last_dim("next_state")


@dataclass
class OnnxSeedModel:
    """Folds a moment's recent events through `step.onnx` and lists the items nearest to the user vector.

    The folder holds `step.onnx`, `item.onnx` and `items.json`: any release's does, and no manifest is asked for.
    """

    folder: Path
    text_vectors: Vectors | None = None
    """[C, T] of the catalogue by the model's own text transformer; None: it reads what the other seeds read."""
    recent: int = 64
    threads: int = 1
    name: str = "onnx"

    def fit(self, log: EventLog, text_vectors: Vectors, done: Done) -> None:
        """Make the vectors of all items; the log's events are not read. Raises `ReleaseError`, naming the file."""
        files = Draft(self.folder)
        self._step = _Step(files, self.threads)
        own = text_vectors if self.text_vectors is None else self.text_vectors
        if len(own) != len(log.item_ids):
            raise ValueError(f"`text_vectors` has {len(own)} items, the catalogue {len(log.item_ids)}: give it whole")
        self._items = self._item_vectors(ItemEncoder(files, self.threads), log.item_ids, own)  # [C, d]
        done(1.0)

    def predict_top_k(self, contexts: Contexts, k: int) -> TopK:
        """Confidence: the probability of the list, the inner products taken as logits.

        Raises `ValueError` for moments without time stamps or event types.
        """
        scores = self.user_vectors(contexts) @ self._items.T  # [B, C]
        items = top(scores, k)
        odds = np.exp(scores - scores.max(axis=1, keepdims=True))
        confidence = np.take_along_axis(odds, items, axis=1).sum(axis=1) / odds.sum(axis=1)
        return TopK(items, np.where(contexts.recent[:, 0] >= 0, confidence, 0).astype(np.float32))

    def user_vectors(self, contexts: Contexts) -> Vectors:
        """User vectors [B, d] after the recent events, the oldest first; 0 where there are none."""
        recent, types, ts = contexts.recent[:, : self.recent], contexts.types(), contexts.times()
        state = np.zeros((len(recent), self._step.state_dims), np.float32)
        users = np.zeros((len(recent), self._items.shape[1]), np.float32)
        last = np.full(len(recent), -1, np.int64)
        for place in range(recent.shape[1] - 1, -1, -1):
            there = recent[:, place] >= 0
            since = np.where(last >= 0, np.maximum(ts[:, place] - last, 0) / 1000, 0).astype(np.float32)
            state[there], users[there] = self._step.step(
                state[there], self._items[recent[there, place]], types[there, place], since[there]
            )
            last[there] = ts[there, place]
        return users

    def _item_vectors(self, encoder: ItemEncoder, item_ids: tuple[str, ...], text_vectors: Vectors) -> Vectors:
        try:
            return encoder.encode(item_ids, text_vectors)
        except InvalidArgument as error:
            raise ReleaseError(
                f"{self.folder / 'item.onnx'} does not take text vectors of {text_vectors.shape[1]} dimensions: "
                f"give `text_vectors` made by its own text transformer ({str(error).splitlines()[0]})"
            ) from error
