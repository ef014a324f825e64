"""The ONNX seed model: an encoder trained elsewhere, in files that meet the release contract."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from onnxruntime.capi.onnxruntime_pybind11_state import InvalidArgument

from anabranch.ranking.inference.item_encoder import OnnxItemEncoder
from anabranch.ranking.inference.user_encoder import OnnxStepEncoder, encoder_types
from anabranch.release import ReleaseError, UnverifiedRelease
from models.data.event_log import EventLog
from models.data.sequences import Contexts
from models.seeds.seed_model import TopK, Vectors, top_k_items
from models.stages import Done


class _SizedStepEncoder(OnnxStepEncoder):
    """The served step encoder, with the size of its state as the file declares it."""

    @property
    def state_dims(self) -> int:
        return self._model.last_dim("next_state")


@dataclass
class OnnxSeedModel:
    """Runs `step.onnx` over the recent events and ranks items by inner product with the user vector.

    The folder needs `step.onnx`, `item.onnx` and `items.json`, as every release has them; no manifest is needed.
    """

    folder: Path
    text_vectors: Vectors | None = None
    """[C, T] of the catalogue, by the encoder's own text transformer. None: the ones given to `fit`."""
    recent: int = 64
    """Newest events of a prediction point that are used."""
    threads: int = 1
    name: str = "onnx"

    def fit(self, log: EventLog, text_vectors: Vectors, done: Done) -> None:
        """Compute all item vectors; the log's events are not used. Raises `ReleaseError`, naming the file."""
        files = UnverifiedRelease(self.folder)
        self._step = _SizedStepEncoder(files, self.threads)
        own = text_vectors if self.text_vectors is None else self.text_vectors
        if len(own) != len(log.item_ids):
            raise ValueError(
                f"`text_vectors` has {len(own)} items, the catalogue {len(log.item_ids)}: it needs one per item"
            )
        self._items = self._item_vectors(OnnxItemEncoder(files, self.threads), log.item_ids, own)  # [C, d]
        done(1.0)

    def predict_top_k(self, contexts: Contexts, k: int) -> TopK:
        """See `SeedModel`. Confidence: the total probability of the list, with inner products as logits.

        Raises `ValueError` for contexts without time stamps or event types.
        """
        scores = self.user_vectors(contexts) @ self._items.T  # [B, C]
        items = top_k_items(scores, k)
        odds = np.exp(scores - scores.max(axis=1, keepdims=True))
        confidence = np.take_along_axis(odds, items, axis=1).sum(axis=1) / odds.sum(axis=1)
        return TopK(items, np.where(contexts.recent[:, 0] >= 0, confidence, 0).astype(np.float32))

    def user_vectors(self, contexts: Contexts) -> Vectors:
        """User vectors [B, d] after the recent events; 0 if there are none."""
        recent, types, ts = contexts.recent[:, : self.recent], encoder_types(contexts.types()), contexts.times()
        state = np.zeros((len(recent), self._step.state_dims), np.float32)
        users = np.zeros((len(recent), self._items.shape[1]), np.float32)
        last_ts = np.full(len(recent), -1, np.int64)
        for column in range(recent.shape[1] - 1, -1, -1):  # oldest first
            present = recent[:, column] >= 0
            seconds = np.where(last_ts >= 0, np.maximum(ts[:, column] - last_ts, 0) / 1000, 0).astype(np.float32)
            state[present], users[present] = self._step.step(
                state[present], self._items[recent[present, column]], types[present, column], seconds[present]
            )
            last_ts[present] = ts[present, column]
        return users

    def _item_vectors(self, encoder: OnnxItemEncoder, item_ids: tuple[str, ...], text_vectors: Vectors) -> Vectors:
        try:
            return encoder.encode(item_ids, text_vectors)
        except InvalidArgument as error:
            raise ReleaseError(
                f"{self.folder / 'item.onnx'} does not accept text vectors of {text_vectors.shape[1]} dimensions: "
                f"pass `text_vectors` computed by its own text transformer ({str(error).splitlines()[0]})"
            ) from error
