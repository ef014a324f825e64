"""Rank distillation from several seed models: the encoder learns from the log and from their merged top-k lists.

Tang and Wang, Ranking Distillation: Learning Compact Ranking Models With High Performance for Recommender System,
KDD 2018 (a student learns the top of its teacher's list, positions weighted by rank); Zhang, Chen and Wang,
Confidence-Aware Multi-Teacher Knowledge Distillation, ICASSP 2022 (a teacher's weight follows how well it predicts what
happens; here out of fold, and by slice of the next event); Kang et al., Distillation from Heterogeneous Models for
Top-K Recommendation, WWW 2023 (teachers of different kinds train a compact student through their rankings alone).
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
from models.networks.sampled_softmax import EXCLUDED
from models.networks.stored_names import stored_as, stored_settings
from models.sharing.strategy import TrainingData, TrainingStep
from models.sharing.teacher_lists import Answers, Floats, skill_by_slice
from models.sharing.teachers import Teachers
from models.stages import Done


@dataclass
class RankDistillation:
    """Adds the seed models' lists at prediction points of the log to the loss. Teachers: see `models.sharing.teachers`.

    The lists are without the items that the serving policy bars. A seed model's weight at a prediction point is its
    skill in the slice of the event that came next there: whether the item was new to the user, was cold, and began a
    session.

    Seed models read no searches. So their lists belong right after the events about items, where the encoder has read
    no later search either.
    """

    weight: float = 0.5
    """Weight of a prediction point's lists; predicting an event has weight 1."""
    prediction_points: int = stored_as("moments", 60_000)
    """Number of prediction points with lists, at most: it bounds the time to ask the seed models."""
    list_length: int = 20
    """Items of a seed model's list, and of the merged one."""
    recent: int = 64
    """A seed model sees this many of the user's newest items."""
    rank_decay: float = stored_as("fading", 8.0)
    """The item at rank r has weight exp(-r / rank_decay), r from 0."""
    skill_power: float = 2.0
    """A seed model's weight is its skill to this power: more trusts the best one of the slice more."""
    folds: int = 3
    """Fits of the seed models to a part of the log, besides the fit to all of it."""
    name: str = "rank_distillation"
    _measured: dict[str, float] = field(default_factory=dict, repr=False)

    def describe(self) -> dict[str, Any]:
        """See `Strategy`."""
        return stored_settings(self)

    def measured(self) -> dict[str, float]:
        """Number of prediction points with lists, and each seed model's out-of-fold NDCG and mean weight."""
        return self._measured

    def prepare(
        self, encoder: SharedEncoder, data: TrainingData, random: np.random.Generator, done: Done
    ) -> ListDistillationLoss | None:
        """Ask the seed models for their lists; None without any that may be asked. The encoder does not change."""
        self._measured = {}
        if data.teachers is None:
            return None
        visits = data.sequences.only(data.sequences.has_item)
        rows = data.teachers.rows(visits, data.new_since_ms)
        if not len(rows):
            return None
        rows = np.sort(random.choice(rows, min(self.prediction_points, len(rows)), replace=False))
        answers = Answers.ask(data.teachers, visits, rows, self.recent, self.list_length, done)
        items, weights = self._merge(answers, visits, data.teachers)
        row = data.sequences.visit_row[answers.row]
        return ListDistillationLoss(TeacherLists.at_rows(len(data.sequences), row, items, weights), self.weight)

    def _merge(self, answers: Answers, visits: Sequences, teachers: Teachers) -> tuple[NDArray[np.int32], Floats]:
        """The merged lists [n, k] and the weights of their items."""
        gains = answers.gains(visits)
        weight = skill_by_slice(gains, answers.slice)[answers.slice] ** self.skill_power  # [n, K]
        weight /= np.maximum(weight.sum(axis=1, keepdims=True), np.finfo(np.float32).tiny)
        self._measured = {"distilled_points": float(len(gains))}
        for name, gain, share in zip(teachers.names, gains.mean(axis=0), weight.mean(axis=0), strict=True):
            self._measured |= {f"skill_{name}": float(gain), f"weight_{name}": float(share)}
        rank_weight = np.exp(-np.arange(self.list_length) / self.rank_decay).astype(np.float32)
        return answers.merged(weight, rank_weight, self.list_length)


@dataclass(frozen=True)
class TeacherLists:
    """One list at each of n prediction points; the weights of a list sum to 1, or it is empty."""

    index: Positions  # [N], row of the sequences → prediction point, -1: none
    items: NDArray[np.int32]  # [n, k], padded with -1
    weight: Floats  # [n, k]

    @classmethod
    def at_rows(cls, events: int, rows: Positions, items: NDArray[np.int32], weight: Floats) -> TeacherLists:
        """Lists right after the events at `rows` [n] of N `events`."""
        index = np.full(events, -1, np.int64)
        index[rows] = np.arange(len(rows))
        return cls(index, items, weight)


@dataclass(frozen=True)
class ListDistillationLoss:
    """Weighted cross-entropy of the users choosing each listed item among all items that can be sampled.

    The items of a prediction point's lists count exactly, all others by the step's negatives that are on none of them.
    """

    lists: TeacherLists
    weight: float

    def __call__(self, step: TrainingStep) -> Tensor:
        """A weighted scalar, in which a list counts as much as `weight` events; 0 if the step has no list."""
        index = np.where(step.windows.present, self.lists.index[step.windows.row], -1)
        has_list = index >= 0
        if not has_list.any():
            return torch.zeros(())
        users = step.users[torch.from_numpy(has_list)]  # [b, d]
        lists = self.lists.items[index[has_list]]  # [b, k]
        items, column = np.unique(np.maximum(lists, 0), return_inverse=True)  # compute each item's vector once
        vectors = step.items.at(items)[torch.from_numpy(column.reshape(lists.shape))]  # [b, k, d]
        listed = (vectors @ users.unsqueeze(-1)).squeeze(-1)  # [b, k]
        others = step.negatives.logits(users, torch.from_numpy(_are_listed(lists, step.negatives.items)))  # [b, n]
        choices = torch.cat([listed.masked_fill(torch.from_numpy(lists < 0), EXCLUDED), others], dim=1)
        nll = torch.logsumexp(choices, dim=1)[:, None] - listed
        weights = torch.from_numpy(self.lists.weight[index[has_list]])
        return self.weight * (nll * weights).sum() / max(len(step.target), 1)


def _are_listed(lists: NDArray[np.int32], items: Positions) -> NDArray[np.bool_]:
    """Whether each item [n] is on each list [b, k], which is padded with -1 → [b, n]."""
    distinct, column = np.unique(items, return_inverse=True)
    place = np.minimum(np.searchsorted(distinct, lists), len(distinct) - 1)  # [b, k]
    point, rank = np.nonzero(distinct[place] == lists)
    on_list = np.zeros((len(lists), len(distinct)), np.bool_)
    on_list[point, place[point, rank]] = True
    return on_list[:, column]
