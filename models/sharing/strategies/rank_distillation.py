"""Rank distillation from several seed models: the encoder learns from the log and from their top-k lists.

Tang and Wang, Ranking Distillation: Learning Compact Ranking Models With High Performance for Recommender System,
KDD 2018 (a student learns the top of its teacher's list, positions weighted by rank); Zhang, Chen and Wang,
Confidence-Aware Multi-Teacher Knowledge Distillation, ICASSP 2022 (a teacher's weight at a prediction point follows how
well it agrees with what happened); Kang et al., Distillation from Heterogeneous Models for Top-K Recommendation, WWW
2023 (teachers of different kinds train a compact student through their rankings alone).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.data.sequences import Positions, Sequences
from models.networks.encoder import SharedEncoder
from models.networks.sampled_softmax import EXCLUDED, Negatives
from models.networks.stored_names import stored_as, stored_settings
from models.seeds.seed_model import TopK
from models.sharing.strategy import TrainingData, TrainingStep
from models.stages import Done

PREDICTION_BATCH = 512


@dataclass
class RankDistillation:
    """Adds the seed models' lists at prediction points of the log to the loss."""

    weight: float = 0.3
    """Weight of the lists; the loss on the log has weight 1."""
    prediction_points: int = stored_as("moments", 12_000)
    """Number of prediction points with lists, at most."""
    list_length: int = 20
    recent: int = 64
    """A seed model sees this many of the user's newest items."""
    rank_decay: float = stored_as("fading", 8.0)
    """The item at rank r has weight exp(-r / rank_decay), r from 0."""
    name: str = "rank_distillation"
    _measured: dict[str, float] = field(default_factory=dict, repr=False)

    def describe(self) -> dict[str, Any]:
        """See `Strategy`."""
        return stored_settings(self)

    def measured(self) -> dict[str, float]:
        """Mean weight of each seed model."""
        return self._measured

    def prepare(
        self, encoder: SharedEncoder, data: TrainingData, random: np.random.Generator, done: Done
    ) -> ListDistillationLoss | None:
        """Ask the seed models for their lists; None without seed models. The encoder does not change."""
        if not data.seed_models:
            return None
        lists = self._predict(data, random, done)
        names = (f"weight_{seed_model.name}" for seed_model in data.seed_models)
        self._measured = dict(zip(names, lists.mean_weights(), strict=True))
        return ListDistillationLoss(lists, self.weight, self.rank_decay)

    def _predict(self, data: TrainingData, random: np.random.Generator, done: Done) -> SeedModelLists:
        """Every seed model's list at prediction points sampled from the new events."""
        sequences, seed_models = data.sequences, data.seed_models
        new = np.flatnonzero(sequences.ts >= data.new_since_ms)
        rows = np.sort(random.choice(new, min(self.prediction_points, len(new)), replace=False))
        contexts, following = sequences.contexts(rows, self.recent), sequences.following(rows, self.list_length)
        items = np.full((len(rows), len(seed_models), self.list_length), -1, np.int32)
        weight = np.zeros((len(rows), len(seed_models)), np.float32)
        for column, seed_model in enumerate(seed_models):
            for start in range(0, len(rows), PREDICTION_BATCH):
                batch = slice(start, start + PREDICTION_BATCH)
                top_k = seed_model.predict_top_k(contexts.part(batch.start, batch.stop), self.list_length)
                items[batch, column, : top_k.items.shape[1]] = top_k.items
                weight[batch, column] = top_k.confidence * agreement(top_k, following[batch])
                done(len(top_k.items) / len(rows) / len(seed_models))
        return SeedModelLists.at_rows(sequences, rows, items, weight)


@dataclass(frozen=True)
class SeedModelLists:
    """Lists of K seed models at n prediction points, with weights that sum to 1 per point on average."""

    index: Positions  # [N], row of the sequences → prediction point, -1: none
    items: NDArray[np.int32]  # [n, K, k], padded with -1
    weight: NDArray[np.float32]  # [n, K]

    @classmethod
    def at_rows(
        cls, sequences: Sequences, rows: Positions, items: NDArray[np.int32], weight: NDArray[np.float32]
    ) -> SeedModelLists:
        """Lists right after the events at `rows` [n]; the weights [n, K] are scaled."""
        index = np.full(len(sequences), -1, np.int64)
        index[rows] = np.arange(len(rows))
        scale = weight.sum() / max(len(rows), 1)
        return cls(index, items, weight / scale if scale > 0 else weight)

    def mean_weights(self) -> list[float]:
        """Mean over the prediction points of each seed model's weight [K]."""
        if not len(self.weight):
            return [0.0] * self.weight.shape[1]
        return [float(mean) for mean in self.weight.mean(axis=0)]


def agreement(top_k: TopK, following: NDArray[np.int32]) -> NDArray[np.float32]:
    """How well each list [B, k] predicted the user's next items [B, m], 0 to 1.

    Half of it is the list's own discounted gain, half the mean over the batch: a good seed model that missed once keeps
    some weight.
    """
    hit = (top_k.items[:, :, None] == following[:, None, :]) & (top_k.items >= 0)[:, :, None]
    discount = 1 / np.log2(np.arange(top_k.items.shape[1]) + 2)
    gain = np.asarray((hit.any(axis=2) * discount).sum(axis=1) / discount.sum(), np.float32)
    weight: NDArray[np.float32] = 0.5 * gain + 0.5 * gain.mean()
    return weight


@dataclass(frozen=True)
class ListDistillationLoss:
    """Weighted cross-entropy of the users choosing each listed item among all items that can be sampled.

    The items of a prediction point's lists count exactly, all others by the step's negatives that are on none of them.
    """

    lists: SeedModelLists
    weight: float
    rank_decay: float

    def __call__(self, step: TrainingStep) -> Tensor:
        """A weighted scalar; 0 if the step has no prediction point with lists."""
        index = np.where(step.windows.present, self.lists.index[step.windows.row], -1)
        has_lists = index >= 0
        if not has_lists.any():
            return torch.zeros(())
        users = step.users[torch.from_numpy(has_lists)]  # [b, d]
        lists = self.lists.items[index[has_lists]]  # [b, K, k]
        weights = self._weights(lists, self.lists.weight[index[has_lists]])
        items, column = np.unique(np.maximum(lists, 0), return_inverse=True)  # compute each item's vector once
        scores = users @ step.items.at(items).T  # [b, items]
        column = column.reshape(len(users), -1)  # [b, K * k]
        listed = scores.gather(1, torch.from_numpy(column)).reshape(lists.shape)  # [b, K, k]
        is_listed = np.zeros(scores.shape, np.bool_)  # [b, items]
        point, place = np.nonzero(lists.reshape(len(users), -1) >= 0)
        is_listed[point, column[point, place]] = True
        nll = _log_total(scores, is_listed, users, items, step.negatives)[:, None, None] - listed
        return self.weight * (nll * weights).sum() / len(users)

    def _weights(self, lists: NDArray[np.int32], weight: NDArray[np.float32]) -> Tensor:
        """Weight of each listed item, by its rank and its seed model: lists [b, K, k], weight [b, K] → [b, K, k]."""
        by_rank = torch.exp(-torch.arange(lists.shape[2]) / self.rank_decay)
        present = by_rank * torch.from_numpy(lists >= 0)
        return present / by_rank.sum() * torch.from_numpy(weight)[:, :, None]


def _log_total(
    scores: Tensor, is_listed: NDArray[np.bool_], users: Tensor, items: Positions, negatives: Negatives
) -> Tensor:
    """Log of the sum over all items [b]: those that are listed, by their scores [b, items], and the other negatives."""
    column = np.minimum(np.searchsorted(items, negatives.items), len(items) - 1)  # [n]
    excluded = is_listed[:, column] & (items[column] == negatives.items)  # [b, n]
    listed = scores.masked_fill(torch.from_numpy(~is_listed), EXCLUDED)
    others = negatives.logits(users, torch.from_numpy(excluded))
    return torch.logsumexp(torch.cat([listed, others], dim=1), dim=1)
