"""Weight merging: specialists of one domain or one type of event, and their weights brought together again.

Every specialist starts from the same encoder and trains its step alone, for a short while, on the items' vectors as
they are: so the specialists' weights mean the same, and can be added. What they changed is merged in one of three ways:
Wortsman et al., Model soups: averaging weights of multiple fine-tuned models improves accuracy without increasing
inference time, ICML 2022; Ilharco et al., Editing Models with Task Arithmetic, ICLR 2023; Yadav et al., TIES-Merging:
Resolving Interference When Merging Models, NeurIPS 2023. Moments that no specialist has seen tell which, and how much.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from anabranch.messages import EVENT_TYPES
from models.data.sequences import Positions
from models.networks.encoder import LinearRecurrentUnit, SharedEncoder
from models.networks.stored_names import stored_as, stored_settings
from models.sharing.held_out import HeldOutPoints, held_out_rows
from models.sharing.strategy import TrainingData
from models.sharing.training import Training, train
from models.stages import Done

Delta = Mapping[str, Tensor]
"""What training changed of every weight, by name."""

SCALES = (0.25, 0.5, 0.75, 1.0)
KEPT = (0.2, 0.5)


@dataclass
class Merging:
    """The encoder's step begins as what its specialists share. Of one domain and one type of event there are none."""

    training: Training = field(default_factory=lambda: Training(epochs=1, child_epochs=1))
    """A specialist's."""
    max_events: int = stored_as("most_events", 100_000)
    """That a specialist learns from: the newest."""
    min_events: int = stored_as("fewest_events", 2000)
    """Fresh ones of a domain or a type, for it to have a specialist."""
    held_out: float = 0.03
    """Share of the users whose last event is kept from the specialists: the newest."""
    max_held_out: int = stored_as("most_held_out", 1024)
    name: str = "merging"
    _found: dict[str, float] = field(default_factory=dict, repr=False)

    def describe(self) -> dict[str, Any]:
        """Settings, for the manifest."""
        return stored_settings(self)

    def measured(self) -> dict[str, float]:
        """How many specialists there were, the loss of every way on the moments kept from them, and by what each
        specialist's change was multiplied in the best of them. 0 specialists: there was nothing to merge."""
        return self._found

    def prepare(self, encoder: SharedEncoder, data: TrainingData, random: np.random.Generator, done: Done) -> None:
        """Train the specialists, and change the step's weights by the best merge, if any is better than none."""
        self._found = {"merging_specialists": 0.0}
        held = held_out_rows(data.sequences, self.held_out, self.max_held_out)
        slices = self.slices(data, held)
        if not len(held) or not slices:
            return
        random_seed = int(random.integers(2**31))
        deltas = [
            change(
                encoder.step, specialist(encoder, one, self.training, random_seed, lambda n: done(n / len(slices))).step
            )
            for one in slices.values()
        ]
        prediction_points = HeldOutPoints.of(encoder, data, held, self.training, random)
        best, losses = search(encoder.step, deltas, prediction_points)
        with torch.no_grad():
            for name, weight in encoder.step.named_parameters():
                weight.add_(best.delta[name])
        self._found = {"merging_specialists": float(len(slices))}
        self._found |= {f"merging_loss_{method}": loss for method, loss in losses.items()}
        self._found |= {f"merging_{name}": by for name, by in zip(slices, best.coefficients, strict=True)}

    def slices(self, data: TrainingData, held: Positions) -> dict[str, TrainingData]:
        """What each specialist learns from, by its name: nothing of the events at rows `held`."""
        seen = np.ones(len(data.sequences), np.bool_)
        seen[held] = False
        data = replace(data, sequences=data.sequences.only(seen), seeds=(), targets=None)
        return {**self._domains(data), **self._types(data)}

    def _domains(self, data: TrainingData) -> dict[str, TrainingData]:
        """A domain's events, as if there were no others."""
        if data.domains is None:
            return {}
        domain = data.domains[data.sequences.item] - 1
        return {f"domain_{one + 1}": self._newest(data, domain == one) for one in self._large(domain, data)}

    def _types(self, data: TrainingData) -> dict[str, TrainingData]:
        """All events, of which those of a type are predicted."""
        newest = self._newest(data, np.ones(len(data.sequences), np.bool_))
        return {
            EVENT_TYPES[one]: replace(newest, targets=newest.sequences.type == one)
            for one in self._large(data.sequences.type, data)
        }

    def _large(self, kind: NDArray[np.integer], data: TrainingData) -> list[int]:
        """Of the kinds [N], -1: none, those of enough fresh events; none if there are no two."""
        fresh = data.sequences.ts >= data.new_since_ms
        counts = np.bincount(kind[fresh & (kind >= 0)])
        large = np.flatnonzero(counts >= max(self.min_events, 1)).tolist()
        return large if len(large) > 1 else []

    def _newest(self, data: TrainingData, events: NDArray[np.bool_]) -> TrainingData:
        """The newest events of a mask [N]."""
        rows = np.flatnonzero(events)
        kept = np.zeros_like(events)
        kept[rows[np.argsort(data.sequences.ts[rows], kind="stable")[-self.max_events :]]] = True
        return replace(data, sequences=data.sequences.only(kept))


def specialist(
    encoder: SharedEncoder, data: TrainingData, training: Training, random_seed: int, done: Done
) -> SharedEncoder:
    """A copy of the encoder, its step trained on the course."""
    copy = deepcopy(encoder)
    copy.item.requires_grad_(False)
    train(copy, data, (), training, random_seed, done)
    return copy


def change(start: LinearRecurrentUnit, end: LinearRecurrentUnit) -> dict[str, Tensor]:
    """What must be added to the weights of the one to have the other's."""
    before = dict(start.named_parameters())
    return {name: (weight - before[name]).detach() for name, weight in end.named_parameters()}


def linear(deltas: Sequence[Delta], coefficients: Sequence[float]) -> dict[str, Tensor]:
    """Each delta times its coefficient, added. Coefficients of sum 1 average the weights: Wortsman et al., 2022."""
    auxiliary_losses = list(zip(deltas, coefficients, strict=True))
    return {name: torch.stack([by * delta[name] for delta, by in auxiliary_losses]).sum(dim=0) for name in deltas[0]}


def task_arithmetic(deltas: Sequence[Delta], scale: float) -> dict[str, Tensor]:
    """The deltas' sum times a scale: Ilharco et al., 2023."""
    return linear(deltas, [scale] * len(deltas))


def ties(deltas: Sequence[Delta], keep: float) -> dict[str, Tensor]:
    """Trim every delta to the share `keep` (below 1) of its largest entries, elect every entry's sign, and average the
    entries that have it: Yadav et al., 2023."""
    from peft.utils import merge_utils  # takes a second to load, and few courses have anything to merge

    flat = [torch.cat([part.flatten() for part in delta.values()]) for delta in deltas]
    merged = merge_utils.ties(flat, torch.ones(len(flat)), density=keep)
    parts = torch.split(merged, [part.numel() for part in deltas[0].values()])
    return {name: part.view_as(like) for (name, like), part in zip(deltas[0].items(), parts, strict=True)}


@dataclass(frozen=True)
class Merge:
    """One way to merge K deltas."""

    method: str
    coefficients: tuple[float, ...]  # [K]
    delta: Delta


def merges(deltas: Sequence[Delta]) -> Iterator[Merge]:
    """The grid that is searched: none at first; every specialist, every two and all on average; sums; TIES."""
    count = len(deltas)
    none = (0.0,) * count
    yield Merge("none", none, linear(deltas, none))
    for size in sorted({1, 2, count}):
        for chosen in combinations(range(count), size):
            shares = tuple(1 / size if at in chosen else 0.0 for at in range(count))
            yield Merge("linear", shares, linear(deltas, shares))
    for scale in SCALES:
        yield Merge("task_arithmetic", (scale,) * count, task_arithmetic(deltas, scale))
    for keep in KEPT:
        merged = ties(deltas, keep)
        for scale in SCALES:
            yield Merge("ties", (scale,) * count, linear([merged], [scale]))


def search(
    step: LinearRecurrentUnit, deltas: Sequence[Delta], prediction_points: HeldOutPoints
) -> tuple[Merge, dict[str, float]]:
    """The merge of the least loss at the moments, and every method's least loss."""
    found: dict[str, tuple[float, Merge]] = {}
    for merge in merges(deltas):
        loss = prediction_points.loss(step, merge.delta)
        if loss < found.get(merge.method, (math.inf,))[0]:
            found[merge.method] = loss, merge
    best = min(found.values(), key=lambda one: one[0])[1]
    return best, {method: loss for method, (loss, _) in found.items()}
