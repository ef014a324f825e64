"""Replay with adaptive distillation: a child that learns new events stays close to its parent on the old ones.

Mi, Lin and Faltings, ADER: Adaptively Distilled Exemplar Replay Towards Continual Learning for Session-based
Recommendation, RecSys 2020. The exemplars are the old windows that the training replays (`Training.replay`), sampled
uniformly from the log, so that an item has exemplars in proportion to its frequency, as in the paper. Within an item
they are chosen at random (the paper's ablation ADER_random) instead of by herding. Unlike in the paper they are sampled
anew every epoch, because the log is kept.
"""

from __future__ import annotations

import math
from copy import deepcopy
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from models.data.sequences import Positions, Sequences
from models.networks.encoder import LinearRecurrentUnit, SharedEncoder
from models.networks.sampled_softmax import Targets, choice_logits
from models.networks.stored_names import stored_settings
from models.sharing.strategy import CatalogueVectors, TrainingData, TrainingStep, encoder_inputs
from models.stages import Done


@dataclass
class Replay:
    """Adds the divergence from the parent's predictions, over old items at replayed prediction points, to the loss.

    It must come before strategies that change the encoder's weights, because it copies the encoder as the parent.
    """

    weight: float = 0.3
    """Weight before it is adapted to the share of old items and events; the loss on the log has weight 1."""
    first: bool = True
    """Whether to use it also for a first release, when that is fine-tuned on the held-out window."""
    name: str = "replay"
    _measured: dict[str, float] = field(default_factory=dict, repr=False)

    def describe(self) -> dict[str, Any]:
        """See `Strategy`."""
        return stored_settings(self)

    def measured(self) -> dict[str, float]:
        """Share of the items that are old; empty if all events are new, or all old."""
        return self._measured

    def prepare(
        self, encoder: SharedEncoder, data: TrainingData, random: np.random.Generator, done: Done
    ) -> ParentDistillationLoss | None:
        """Copy the encoder as the parent. None unless some events are old and some new."""
        old = data.sequences.ts < data.new_since_ms  # [N]
        self._measured = {}
        if not old.any() or old.all() or not (data.child or self.first):
            return None
        visited = data.sequences.has_item
        old_items = np.bincount(data.sequences.item[old & visited], minlength=len(data.numbers)) > 0
        share = old_items.sum() / len(np.unique(data.sequences.item[visited]))
        self._measured = {"replay_old_items": float(share)}
        parent = ParentEncoder.copy_of(encoder, data)
        return ParentDistillationLoss(parent, data.sequences, old, old_items, self.weight * math.sqrt(share))


@dataclass(frozen=True)
class ParentEncoder:
    """A frozen copy of an encoder, with its vectors of items and searches."""

    step: LinearRecurrentUnit
    vectors: Tensor  # [C + Q, d], those of items before those of searches
    items: int  # C

    @classmethod
    @torch.no_grad()
    def copy_of(cls, encoder: SharedEncoder, data: TrainingData) -> ParentEncoder:
        """Copy the encoder as it is now."""
        frozen = deepcopy(encoder).eval().requires_grad_(False)
        vectors = CatalogueVectors(frozen, data)
        return cls(frozen.step, vectors.at(np.arange(len(vectors))), vectors.items)

    def at(self, rows: NDArray[np.integer]) -> Tensor:
        """Vectors [..., d] of the items at catalogue rows [...], or of searches at the rows after them."""
        return self.vectors[torch.from_numpy(rows.astype(np.int64))]

    @torch.no_grad()
    def users(self, sequences: Sequences, row: Positions) -> Tensor:
        """User vectors [B, L, d] after each of the events at rows [B, L]."""
        users: Tensor = self.step(*encoder_inputs(sequences, row, self.items, self.at))
        return users


@dataclass
class ParentDistillationLoss:
    """KL divergence of the child's softmax from its parent's, over old negatives and the target, for old targets."""

    parent: ParentEncoder
    sequences: Sequences
    old: NDArray[np.bool_]  # [N]
    old_items: NDArray[np.bool_]  # [C]
    weight: float
    """Already adapted to the share of old items."""
    old_targets: int = 0
    """Old targets in all steps so far."""
    new_targets: int = 0
    """New targets in all steps so far."""

    def __call__(self, step: TrainingStep) -> Tensor:
        """A weighted scalar; 0 if the step has no old target."""
        replayed = self.old[step.target]  # [m]
        self.old_targets += int(replayed.sum())
        self.new_targets += int((~replayed).sum())
        if not replayed.any():
            return torch.zeros(())
        return self.adapted_weight * self._divergence(step, replayed)

    @property
    def adapted_weight(self) -> float:
        """The weight times the square root of old targets per new target so far."""
        return self.weight * math.sqrt(self.old_targets / max(self.new_targets, 1))

    def _divergence(self, step: TrainingStep, replayed: NDArray[np.bool_]) -> Tensor:
        mask = step.mask.copy()
        mask[step.mask] = replayed  # [B, L]
        windows = mask.any(axis=1)  # [B], windows that the parent must encode
        target = self.sequences.item[step.target[replayed]]
        negatives = step.negatives.only(self.old_items[step.negatives.items])
        child = choice_logits(step.users[torch.from_numpy(mask)], step.items.targets(target), negatives)
        users = self.parent.users(self.sequences, step.windows.row[windows])[torch.from_numpy(mask[windows])]
        parent = choice_logits(
            users,
            Targets(target, self.parent.at(target)),
            replace(negatives, vectors=self.parent.at(negatives.items)),
        )
        return F.kl_div(
            torch.log_softmax(child, dim=1), torch.log_softmax(parent, dim=1), reduction="batchmean", log_target=True
        )
