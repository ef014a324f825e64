"""Weight merging: specialists of one domain or one event type are trained, and their weights are merged.

Every specialist starts from the same encoder and trains the recurrent unit for a short time while the item vectors stay
fixed, so weights mean the same in all of them and can be added. Their changes are merged in one of three ways: Wortsman
et al., Model soups: averaging weights of multiple fine-tuned models improves accuracy without increasing inference
time, ICML 2022; Ilharco et al., Editing Models with Task Arithmetic, ICLR 2023; Yadav et al., TIES-Merging: Resolving
Interference When Merging Models, NeurIPS 2023. The loss at held-out prediction points selects the method and the scale.
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
from models.sharing.held_out import ValidationPoints, held_out_rows
from models.sharing.strategy import TrainingData
from models.sharing.training import Training, TrainingObserver, train
from models.stages import Done

Delta = Mapping[str, Tensor]
"""Weight name → what training added to it."""

SCALES = (0.25, 0.5, 0.75, 1.0)
DENSITIES = (0.2, 0.5)


@dataclass
class Merging:
    """Starts the recurrent unit from the merge of its specialists. It needs two domains or two event types."""

    training: Training = field(default_factory=lambda: Training(epochs=1, catching_up_epochs=1, child_epochs=1))
    """Training of a specialist."""
    max_events: int = stored_as("most_events", 100_000)
    """A specialist trains on at most this many events, the newest."""
    min_events: int = stored_as("fewest_events", 2000)
    """A domain or event type with fewer new events has no specialist."""
    held_out: float = 0.03
    """Share of the users whose last event is held out from the specialists, the newest first."""
    max_held_out: int = stored_as("most_held_out", 1024)
    """Held-out events at most."""
    name: str = "merging"
    _measured: dict[str, float] = field(default_factory=dict, repr=False)

    def describe(self) -> dict[str, Any]:
        """See `Strategy`."""
        return stored_settings(self)

    def measured(self) -> dict[str, float]:
        """Number of specialists (0: nothing was merged), held-out loss of each method, and the coefficient of each
        specialist in the best merge."""
        return self._measured

    def prepare(self, encoder: SharedEncoder, data: TrainingData, random: np.random.Generator, done: Done) -> None:
        """Train the specialists, and add the best merge to the recurrent unit's weights if it lowers the loss."""
        self._measured = {"merging_specialists": 0.0}
        held_out = held_out_rows(data.sequences, self.held_out, self.max_held_out)
        slices = self.slices(data, held_out)
        if not len(held_out) or not slices:
            return
        random_seed = int(random.integers(2**31))
        specialists = (
            specialist(encoder, part, self.training, random_seed, lambda share: done(share / len(slices)))
            for part in slices.values()
        )
        deltas = [weight_delta(encoder.step, trained.step) for trained in specialists]
        points = ValidationPoints.before_rows(encoder, data, held_out, self.training, random)
        best, losses = search(encoder.step, deltas, points)
        with torch.no_grad():
            for name, weight in encoder.step.named_parameters():
                weight.add_(best.delta[name])
        self._measured = {"merging_specialists": float(len(slices))}
        self._measured |= {f"merging_loss_{method}": loss for method, loss in losses.items()}
        self._measured |= {f"merging_{name}": by for name, by in zip(slices, best.coefficients, strict=True)}

    def slices(self, data: TrainingData, held_out: Positions) -> dict[str, TrainingData]:
        """Specialist name → what it trains on, without the events at rows `held_out`."""
        included = np.ones(len(data.sequences), np.bool_)
        included[held_out] = False
        data = replace(data, sequences=data.sequences.only(included), teachers=None, targets=None)
        return {**self._domains(data), **self._types(data)}

    def _domains(self, data: TrainingData) -> dict[str, TrainingData]:
        """One domain's events each, as if there were no others: searches have no domain."""
        if data.domains is None:
            return {}
        domain = np.where(data.sequences.has_item, data.domains[data.sequences.item] - 1, -1)
        large = self._large(domain, data)
        return {f"domain_{number + 1}": self._newest(data, domain == number) for number in large}

    def _types(self, data: TrainingData) -> dict[str, TrainingData]:
        """All events, but only those of one type are targets."""
        newest = self._newest(data, np.ones(len(data.sequences), np.bool_))
        type_of_visit = np.where(data.sequences.has_item, data.sequences.type.astype(np.int64), -1)
        return {
            EVENT_TYPES[number]: replace(newest, targets=newest.sequences.type == number)
            for number in self._large(type_of_visit, data)
        }

    def _large(self, group: NDArray[np.integer], data: TrainingData) -> list[int]:
        """Groups with enough new events; empty if there are fewer than two. `group` [N] is -1 for events without."""
        new = data.sequences.ts >= data.new_since_ms
        counts = np.bincount(group[new & (group >= 0)])
        large = np.flatnonzero(counts >= max(self.min_events, 1)).tolist()
        return large if len(large) > 1 else []

    def _newest(self, data: TrainingData, events: NDArray[np.bool_]) -> TrainingData:
        """The newest events of a mask [N]."""
        rows = np.flatnonzero(events)
        newest = np.zeros_like(events)
        newest[rows[np.argsort(data.sequences.ts[rows], kind="stable")[-self.max_events :]]] = True
        return replace(data, sequences=data.sequences.only(newest))


def specialist(
    encoder: SharedEncoder, data: TrainingData, training: Training, random_seed: int, done: Done
) -> SharedEncoder:
    """A copy of the encoder whose recurrent unit is trained on `data`; its item vectors stay as they are."""
    copy = deepcopy(encoder)
    copy.item.requires_grad_(False)
    train(copy, data, (), training, random_seed, TrainingObserver(done))
    return copy


def weight_delta(start: LinearRecurrentUnit, end: LinearRecurrentUnit) -> dict[str, Tensor]:
    """The weights of `end` minus those of `start`."""
    before = dict(start.named_parameters())
    return {name: (weight - before[name]).detach() for name, weight in end.named_parameters()}


def linear(deltas: Sequence[Delta], coefficients: Sequence[float]) -> dict[str, Tensor]:
    """Linear combination of deltas. Coefficients that sum to 1 average the weights: Wortsman et al., 2022."""
    terms = list(zip(deltas, coefficients, strict=True))
    return {name: torch.stack([by * delta[name] for delta, by in terms]).sum(dim=0) for name in deltas[0]}


def task_arithmetic(deltas: Sequence[Delta], scale: float) -> dict[str, Tensor]:
    """Sum of the deltas times a scale: Ilharco et al., 2023."""
    return linear(deltas, [scale] * len(deltas))


def ties(deltas: Sequence[Delta], density: float) -> dict[str, Tensor]:
    """Trim each delta to its largest entries, elect each entry's sign, and average the entries with that sign.

    `density` (below 1) is the share of entries that are not trimmed, over all weights together: Yadav et al., 2023.
    """
    from peft.utils import merge_utils  # takes a second to import, and most releases have nothing to merge

    flat = [torch.cat([part.flatten() for part in delta.values()]) for delta in deltas]
    merged = merge_utils.ties(flat, torch.ones(len(flat)), density=density)
    parts = torch.split(merged, [part.numel() for part in deltas[0].values()])
    return {name: part.view_as(like) for (name, like), part in zip(deltas[0].items(), parts, strict=True)}


@dataclass(frozen=True)
class Merge:
    """One merge of K deltas."""

    method: str
    coefficients: tuple[float, ...]  # [K]
    delta: Delta


def merges(deltas: Sequence[Delta]) -> Iterator[Merge]:
    """The search grid: no change first; then each specialist, means of two and of all, sums, and TIES."""
    count = len(deltas)
    zeros = (0.0,) * count
    yield Merge("none", zeros, linear(deltas, zeros))
    for size in sorted({1, 2, count}):
        for chosen in combinations(range(count), size):
            shares = tuple(1 / size if index in chosen else 0.0 for index in range(count))
            yield Merge("linear", shares, linear(deltas, shares))
    for scale in SCALES:
        yield Merge("task_arithmetic", (scale,) * count, task_arithmetic(deltas, scale))
    for density in DENSITIES:
        merged = ties(deltas, density)
        for scale in SCALES:
            yield Merge("ties", (scale,) * count, linear([merged], [scale]))


def search(
    step: LinearRecurrentUnit, deltas: Sequence[Delta], points: ValidationPoints
) -> tuple[Merge, dict[str, float]]:
    """The merge with the lowest held-out loss, and each method's lowest loss."""
    best: dict[str, tuple[float, Merge]] = {}
    for merge in merges(deltas):
        loss = points.loss(step, merge.delta)
        if loss < best.get(merge.method, (math.inf,))[0]:
            best[merge.method] = loss, merge
    winner = min(best.values(), key=lambda entry: entry[0])[1]
    return winner, {method: loss for method, (loss, _) in best.items()}
