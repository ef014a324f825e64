"""Replay with adaptive distillation: a child that learns what is new stays close to its parent on what is old.

Mi, Lin and Faltings, ADER: Adaptively Distilled Exemplar Replay Towards Continual Learning for Session-based
Recommendation, RecSys 2020. The exemplars are the old windows that the trainer shows again (`Training.replay`): drawn
evenly from the log, so that an item has as many as it was frequent, as in the paper; within an item by chance, its
ablation ADER_random, in place of herding. Unlike there they are drawn anew every epoch, for the log is kept.
"""

from __future__ import annotations

import math
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from models.data.sequences import Positions, Sequences
from models.networks.encoder import LinearRecurrentUnit, SharedEncoder
from models.networks.stored_names import stored_settings
from models.sharing.strategy import ItemVectors, TrainingData, TrainingStep
from models.stages import Done


@dataclass
class Replay:
    """The parent's choice among old items at replayed moments, as a term of the loss. Only where something is old.

    To be prepared before strategies that change the encoder's weights: its parent is the encoder as it finds it.
    """

    weight: float = 0.3
    """Of the distillation against the log, before it is adapted to how much is old."""
    first: bool = True
    """Also hold a first release to what it was, when it catches up with the days that taught its order."""
    name: str = "replay"
    _found: dict[str, float] = field(default_factory=dict, repr=False)

    def describe(self) -> dict[str, Any]:
        """Settings, for the manifest."""
        return stored_settings(self)

    def measured(self) -> dict[str, float]:
        """The share of the items that is old; nothing where all events are fresh, or none is."""
        return self._found

    def prepare(
        self, encoder: SharedEncoder, data: TrainingData, random: np.random.Generator, done: Done
    ) -> ParentDistillationLoss | None:
        """Keep the encoder as it is now, for a parent."""
        old = data.sequences.ts < data.new_since_ms  # [N]
        self._found = {}
        if not old.any() or old.all() or not (data.child or self.first):
            return None
        old_items = np.bincount(data.sequences.item[old], minlength=len(data.numbers)) > 0
        share = old_items.sum() / len(np.unique(data.sequences.item))
        self._found = {"replay_old_items": float(share)}
        return ParentDistillationLoss(
            ParentEncoder.of(encoder, data),
            data.sequences,
            old,
            old_items,
            self.weight * math.sqrt(share),
        )


@dataclass(frozen=True)
class ParentEncoder:
    """An encoder as it was."""

    step: LinearRecurrentUnit
    items: Tensor  # [C, d]

    @classmethod
    @torch.no_grad()
    def of(cls, encoder: SharedEncoder, data: TrainingData) -> ParentEncoder:
        """A frozen copy."""
        frozen = deepcopy(encoder).eval().requires_grad_(False)
        return cls(frozen.step, ItemVectors(frozen, data).of(np.arange(len(data.numbers))))

    @torch.no_grad()
    def users(self, sequences: Sequences, row: Positions) -> Tensor:
        """User vectors [B, L, d] after each of the events at rows [B, L]."""
        users: Tensor = self.step(
            self.items[torch.from_numpy(sequences.item[row].astype(np.int64))],
            torch.from_numpy(sequences.type[row].astype(np.int64)),
            torch.from_numpy(sequences.seconds_since[row]),
        )
        return users


@dataclass
class ParentDistillationLoss:
    """The divergence of the child's softmax from its parent's, over old negatives and the target, where that is old."""

    parent: ParentEncoder
    sequences: Sequences
    old: NDArray[np.bool_]  # [N]
    old_items: NDArray[np.bool_]  # [C]
    weight: float
    """Adapted to the share of old items already."""
    exemplars: int = 0
    """Old moments seen so far."""
    fresh: int = 0
    """Fresh moments seen so far."""

    def __call__(self, step: TrainingStep) -> Tensor:
        """0 where the step holds no old target."""
        replayed = self.old[step.target]  # [m]
        self.exemplars += int(replayed.sum())
        self.fresh += int((~replayed).sum())
        if not replayed.any():
            return torch.zeros(())
        return self.adapted_weight * self._divergence(step, replayed)

    @property
    def adapted_weight(self) -> float:
        """The more is old against what is new, the more it counts."""
        return self.weight * math.sqrt(self.exemplars / max(self.fresh, 1))

    def _divergence(self, step: TrainingStep, replayed: NDArray[np.bool_]) -> Tensor:
        where = step.where.copy()
        where[step.where] = replayed  # [B, L]
        windows = where.any(axis=1)  # [B], those the parent must look at
        target = self.sequences.item[step.target[replayed]]
        drawn = self.old_items[step.negative_items]  # [n]
        log_q = step.negatives_log_q[torch.from_numpy(drawn)]
        child = log_choice(
            step.users[torch.from_numpy(where)],
            step.items.of(target),
            step.negatives[torch.from_numpy(drawn)],
            log_q,
        )
        users = self.parent.users(self.sequences, step.windows.row[windows])[torch.from_numpy(where[windows])]
        known, negatives = (torch.from_numpy(of.astype(np.int64)) for of in (target, step.negative_items[drawn]))
        parent = log_choice(users, self.parent.items[known], self.parent.items[negatives], log_q)
        return F.kl_div(child, parent, reduction="batchmean", log_target=True)


def log_choice(users: Tensor, positives: Tensor, negatives: Tensor, log_q: Tensor) -> Tensor:
    """Log probability [m, 1 + n] of users [m, d] choosing their positive [m, d], or one of the shared negatives [n, d]
    that stand for as many items as their chance [n] to be drawn tells."""
    positive = (users * positives).sum(-1, keepdim=True)  # [m, 1]
    negative = users @ negatives.T - log_q - math.log(max(len(negatives), 1))  # [m, n]
    return torch.log_softmax(torch.cat([positive, negative], dim=1), dim=1)
