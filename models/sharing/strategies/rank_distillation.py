"""Multi-teacher rank distillation: the encoder learns from the log, and from the lists its seeds would show.

Tang and Wang, Ranking Distillation: Learning Compact Ranking Models With High Performance for Recommender System,
KDD 2018 (a student learns the top of its teacher's list, places weighted by rank); Zhang, Chen and Wang,
Confidence-Aware Multi-Teacher Knowledge Distillation, ICASSP 2022 (a teacher counts, moment by moment, by how well
it agrees with what came); Kang et al., Distillation from Heterogeneous Models for Top-K Recommendation, WWW 2023
(teachers that differ in kind teach a compact student through their rankings alone).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.data.sequences import Positions, Sequences
from models.networks.encoder import SharedEncoder
from models.networks.stored_names import stored_as, stored_settings
from models.seeds.seed_model import TopK
from models.sharing.strategy import TrainingData, TrainingStep
from models.stages import Done

TEACH_AT_ONCE = 512


@dataclass
class RankDistillation:
    """The seeds' lists at moments of the log, as a term of the loss."""

    weight: float = 0.3
    """Of the lists against the log."""
    prediction_points: int = stored_as("moments", 12_000)
    """How many moments the seeds teach about."""
    list_length: int = 20
    recent: int = 64
    """Items the seeds are shown of a moment."""
    rank_decay: float = stored_as("fading", 8.0)
    """Places after which a list's item counts 1/e."""
    name: str = "rank_distillation"
    _found: dict[str, float] = field(default_factory=dict, repr=False)

    def describe(self) -> dict[str, Any]:
        """Settings, for the manifest."""
        return stored_settings(self)

    def measured(self) -> dict[str, float]:
        """Every seed's mean weight."""
        return self._found

    def prepare(
        self, encoder: SharedEncoder, data: TrainingData, random: np.random.Generator, done: Done
    ) -> ListDistillationLoss | None:
        """Ask the seeds; the encoder stays as it is."""
        if not data.seeds:
            return None
        lists = self._teach(data, random, done)
        self._found = dict(zip((f"weight_{one.name}" for one in data.seeds), lists.mean_weights(), strict=True))
        return ListDistillationLoss(lists, self.weight, self.rank_decay)

    def _teach(self, data: TrainingData, random: np.random.Generator, done: Done) -> SeedModelLists:
        """Ask every seed about moments drawn from the log, the fresh part of it first of all."""
        sequences = data.sequences
        fresh = np.flatnonzero(sequences.ts >= data.new_since_ms)
        rows = np.sort(random.choice(fresh, min(self.prediction_points, len(fresh)), replace=False))
        contexts, following = sequences.contexts(rows, self.recent), sequences.following(rows, self.list_length)
        items = np.full((len(rows), len(data.seeds), self.list_length), -1, np.int32)
        weight = np.zeros((len(rows), len(data.seeds)), np.float32)
        for at, seed in enumerate(data.seeds):
            for start in range(0, len(rows), TEACH_AT_ONCE):
                part = slice(start, start + TEACH_AT_ONCE)
                top_k = seed.predict_top_k(contexts.part(part.start, part.stop), self.list_length)
                items[part, at, : top_k.items.shape[1]] = top_k.items
                weight[part, at] = top_k.confidence * agreement(top_k, following[part])
                done(len(top_k.items) / len(rows) / len(data.seeds))
        return SeedModelLists.of(sequences, rows, items, weight)


@dataclass(frozen=True)
class SeedModelLists:
    """The lists of K seeds at n moments, and how much each counts: on average, a moment's weights sum to 1."""

    at_row: Positions  # [N] row of the sequences → moment, -1: none
    items: NDArray[np.int32]  # [n, K, k], -1 padded
    weight: NDArray[np.float32]  # [n, K]

    @classmethod
    def of(
        cls, sequences: Sequences, rows: Positions, items: NDArray[np.int32], weight: NDArray[np.float32]
    ) -> SeedModelLists:
        """Lessons at `rows` [n], weights [n, K] brought to scale."""
        at_row = np.full(len(sequences), -1, np.int64)
        at_row[rows] = np.arange(len(rows))
        scale = weight.sum() / max(len(rows), 1)
        return cls(at_row, items, weight / scale if scale > 0 else weight)

    def mean_weights(self) -> list[float]:
        """Each seed's weight, averaged over the moments."""
        return [float(one) for one in self.weight.mean(axis=0)] if len(self.weight) else [0.0] * self.weight.shape[1]


def agreement(top_k: TopK, following: NDArray[np.int32]) -> NDArray[np.float32]:
    """How well each list [B, k] foresaw the user's next items [B, m]: its discounted gain, 0 to 1.

    Half of it is the seed's mean: a good teacher that missed once still counts.
    """
    seen = (top_k.items[:, :, None] == following[:, None, :]) & (top_k.items >= 0)[:, :, None]
    discount = 1 / np.log2(np.arange(top_k.items.shape[1]) + 2)
    gain = np.asarray((seen.any(axis=2) * discount).sum(axis=1) / discount.sum(), np.float32)
    weight: NDArray[np.float32] = 0.5 * gain + 0.5 * gain.mean()
    return weight


@dataclass(frozen=True)
class ListDistillationLoss:
    """Weighted cross-entropy of the users choosing each listed item against the step's negatives."""

    lists: SeedModelLists
    weight: float
    rank_decay: float

    def __call__(self, step: TrainingStep) -> Tensor:
        """0 where the step holds no moment that was taught about."""
        top_k = np.where(step.windows.present, self.lists.at_row[step.windows.row], -1)
        taught = top_k >= 0
        if not taught.any():
            return torch.zeros(())
        users = step.users[torch.from_numpy(taught)]  # [b, d]
        lists = self.lists.items[top_k[taught]]  # [b, K, k]
        by_rank = torch.exp(-torch.arange(lists.shape[2]) / self.rank_decay)
        places = by_rank * torch.from_numpy(lists >= 0)
        places = places / by_rank.sum() * torch.from_numpy(self.lists.weight[top_k[taught]])[:, :, None]
        items, place = np.unique(np.maximum(lists, 0), return_inverse=True)  # each item's vector is made once
        scores = users @ step.items.of(items).T  # [b, items]
        listed = scores.gather(1, torch.from_numpy(place.reshape(len(users), -1))).reshape(lists.shape)  # [b, K, k]
        chance = step.negatives_log_q + math.log(len(step.negatives))
        others = torch.logsumexp(users @ step.negatives.T - chance, dim=1)  # [b]
        surprise = torch.logaddexp(listed, others[:, None, None]) - listed
        return self.weight * (surprise * places).sum() / len(users)
