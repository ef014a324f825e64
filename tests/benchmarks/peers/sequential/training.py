"""Training of a network: until its validation figure gets no better, or for a given number of steps."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from models.data.event_log import NotEnoughData
from models.metrics.ranking import ndcg_at, recall_at
from tests.benchmarks.peers.sequential.examples import Examples, windows
from tests.benchmarks.peers.sequential.network import PeerNetwork, PeerTraining
from tests.benchmarks.peers.sequential.ranks import rank_targets
from tests.benchmarks.peers.sequential.rows import Numbers, Targets, UserSequences

METRICS = {"recall": recall_at, "ndcg": ndcg_at}
VALIDATED_AT = 10
Report = Callable[[int, float], None]
"""Called after each validation with the steps so far and the figure."""


@dataclass
class PeerTrainer:
    """One run of the optimiser over the sequences of users. `items` is the size of the catalogue."""

    network: PeerNetwork
    settings: PeerTraining
    sequences: UserSequences
    items: int
    random: np.random.Generator
    optimiser: torch.optim.Optimizer = field(init=False)

    def __post_init__(self) -> None:
        shortest = 1 if self.settings.first_items else 2  # events
        bounds = windows(self.sequences, self.settings.window, self.settings.all_events)
        self._windows = bounds[bounds[:, 1] - bounds[:, 0] >= shortest]
        if not len(self._windows):
            raise NotEnoughData(f"no user has {shortest} events to learn from: give more training rows")
        self.optimiser = _optimiser(self.network, self.settings)

    @property
    def steps_per_epoch(self) -> int:
        """One step learns from `sequences_per_step` windows, the last of an epoch from what is left."""
        return -(-len(self._windows) // self.settings.sequences_per_step)

    def until_no_better(self, targets: Targets, report: Report) -> int:
        """Train until the patience ends. The network has its best weights then; returns after how many steps."""
        every = self.settings.steps_per_validation or self.steps_per_epoch
        most = self.settings.max_epochs * self.steps_per_epoch
        best, best_step, weights = -1.0, 0, self.network.state_dict()
        for step in self._steps(most):
            if step % every and step < most:
                continue
            figure = self._validate(targets)
            report(step, figure)
            if figure > best:
                best, best_step, weights = figure, step, deepcopy(self.network.state_dict())
            elif step >= best_step + self.settings.patience * every:
                break
        self.network.load_state_dict(weights)
        return best_step

    def for_steps(self, steps: int) -> None:
        """Train for so many steps."""
        for _ in self._steps(steps):
            pass

    def _steps(self, count: int) -> Iterator[int]:
        """Yields after each step how many there were."""
        done = 0
        while done < count:
            for bounds in self._shuffled():
                self._step(bounds)
                done += 1
                yield done
                if done == count:
                    return

    def _shuffled(self) -> list[Numbers]:
        order = self.random.permutation(len(self._windows))
        size = self.settings.sequences_per_step
        return [self._windows[order[start : start + size]] for start in range(0, len(order), size)]

    def _step(self, bounds: Numbers) -> None:
        self.network.train()
        examples = self._examples(bounds)
        loss = self.network.loss(self.network(examples.item, examples.packing), examples.target)
        self.optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        if self.settings.max_gradient_norm is not None:
            nn.utils.clip_grad_norm_(self.network.parameters(), self.settings.max_gradient_norm)
        self.optimiser.step()

    def _examples(self, bounds: Numbers) -> Examples:
        """At most `window` targets of each sequence: a sequence of one event more has no first item."""
        length = bounds[:, 1] - bounds[:, 0]
        examples = Examples.of(self.sequences, bounds[length > 1])
        if not self.settings.first_items:
            return examples
        first = bounds[length <= self.settings.window, 0]
        return examples.with_first_items(self.sequences.item[first], start=self.items)

    def _validate(self, targets: Targets) -> float:
        ranks = rank_targets(self.network, targets, self.settings.window)
        return METRICS[self.settings.metric](ranks, VALIDATED_AT)


def _optimiser(network: PeerNetwork, settings: PeerTraining) -> torch.optim.Optimizer:
    matrices: list[Tensor] = [value for value in network.parameters() if value.dim() > 1]
    vectors: list[Tensor] = [value for value in network.parameters() if value.dim() <= 1]
    groups = [
        {"params": matrices, "weight_decay": settings.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, settings.learning_rate, settings.betas, settings.epsilon)
