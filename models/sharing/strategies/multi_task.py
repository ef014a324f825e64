"""Multi-task heads: while training, every type of event asks for its items with an expert of its own.

Tang et al., Progressive Layered Extraction (PLE): A Novel Multi-Task Learning Model for Personalized Recommendations,
RecSys 2020 (a task's gated expert beside what all share; here one layer, one expert). Tasks count alike: Kurin et al.,
In Defense of the Unitary Scalarization for Deep Multi-Task Learning, NeurIPS 2022. The guard is the projection of Yu et
al., Gradient Surgery for Multi-Task Learning, NeurIPS 2020 (PCGrad), taken once, on the users' vectors instead of
on all weights, as Sener and Koltun bound the weights' gradients: Multi-Task Learning as Multi-Objective Optimization,
NeurIPS 2018.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from anabranch.messages import EVENT_TYPES
from models.data.sequences import Sequences
from models.networks.encoder import SharedEncoder
from models.networks.sampled_softmax import sampled_softmax
from models.networks.stored_names import stored_as, stored_settings
from models.sharing.strategy import TrainingData, TrainingStep
from models.stages import Done


@dataclass
class MultiTask:
    """One head an event type, dropped after training: only the shared encoder serves."""

    weight: float = 0.3
    """Of the tasks together against the log."""
    hidden: int = 32
    """Width of an expert."""
    min_events: int = stored_as("fewest_events", 1000)
    """Of a type, for it to be a task."""
    targets: int = 512
    """Most that a task predicts in a step."""
    name: str = "multi_task"
    _found: dict[str, float] = field(default_factory=dict, repr=False)

    def describe(self) -> dict[str, Any]:
        """Settings, for the manifest."""
        return stored_settings(self)

    def measured(self) -> dict[str, float]:
        """Every task's share of the events; nothing where there are no two tasks."""
        return self._found

    def prepare(
        self, encoder: SharedEncoder, data: TrainingData, random: np.random.Generator, done: Done
    ) -> TaskLoss | None:
        """Make a head for every type with enough events, if there are two; the encoder stays as it is."""
        counts = np.bincount(data.sequences.type, minlength=len(EVENT_TYPES))
        tasks = np.flatnonzero(counts >= max(self.min_events, 1)).tolist()
        self._found = {}
        if len(tasks) < 2:
            return None
        self._found = {f"multi_task_{EVENT_TYPES[task]}": float(counts[task] / counts.sum()) for task in tasks}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(random.integers(2**31)))
            return TaskLoss(data.sequences, tasks, encoder.config.dims, self)


class Expert(nn.Module):
    """What one task asks for: the shared user vector, and a gated deviation that starts at none."""

    def __init__(self, dims: int, hidden: int) -> None:
        super().__init__()
        self.inner = nn.Linear(dims, hidden)
        self.outer = nn.Linear(hidden, dims)
        self.gate = nn.Linear(dims, 1)
        nn.init.zeros_(self.outer.weight)
        nn.init.zeros_(self.outer.bias)

    def forward(self, users: Tensor) -> Tensor:
        """User vectors [m, d] → the task's [m, d]."""
        wish = F.normalize(users, dim=-1)  # [m, d]
        deviation = torch.sigmoid(self.gate(wish)) * self.outer(F.gelu(self.inner(wish)))  # [m, d]
        asked: Tensor = users + users.norm(dim=-1, keepdim=True) * deviation
        return asked


class TaskLoss(nn.Module):
    """The tasks' mean loss. It moves the encoder through the users' vectors alone, where the guard stands."""

    def __init__(self, sequences: Sequences, tasks: list[int], dims: int, config: MultiTask) -> None:
        super().__init__()
        self.sequences, self.tasks, self.config = sequences, tasks, config
        self.experts = nn.ModuleList(Expert(dims, config.hidden) for _ in tasks)

    def forward(self, step: TrainingStep) -> Tensor:
        """A scalar, weighted already. A task without a target in the step counts 0."""
        (main,) = torch.autograd.grad(step.on_the_log, step.users, retain_graph=True)  # [B, L, d]
        losses = [
            self._loss(step, guarded(step.users, main), task, expert)
            for task, expert in zip(self.tasks, self.experts, strict=True)
        ]
        mean: Tensor = self.config.weight * torch.stack(losses).mean()
        return mean

    def _loss(self, step: TrainingStep, users: Tensor, task: int, expert: nn.Module) -> Tensor:
        chosen = np.flatnonzero(self.sequences.type[step.target] == task)[: self.config.targets]
        asking = expert(users[torch.from_numpy(step.where)][torch.from_numpy(chosen)])  # [m, d]
        positives = step.items.of(self.sequences.item[step.target[chosen]]).detach()  # [m, d]
        return sampled_softmax(asking, positives, step.negatives.detach(), step.negatives_log_q)


def guarded(shared: Tensor, main: Tensor) -> Tensor:
    """The same values; a gradient that comes back through them loses what opposes `main`, a gradient of like shape."""
    passed = shared.view_as(shared)
    passed.register_hook(lambda gradient: without_conflict(gradient, main))  # type: ignore[no-untyped-call]
    return passed


def without_conflict(gradient: Tensor, main: Tensor) -> Tensor:
    """The gradient, or where it points against `main` its projection onto the plane across: a small step along it
    does not make the main loss worse."""
    agreement = (gradient * main).sum()
    return gradient if agreement >= 0 else gradient - agreement / main.square().sum() * main
