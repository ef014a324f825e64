"""Multi-task training: each event type predicts its items through an expert head, which is dropped after training.

Tang et al., Progressive Layered Extraction (PLE): A Novel Multi-Task Learning Model for Personalized Recommendations,
RecSys 2020 (a gated expert per task on top of shared layers; here one layer and one expert). Tasks have equal weights:
Kurin et al., In Defense of the Unitary Scalarization for Deep Multi-Task Learning, NeurIPS 2022. A conflicting gradient
is projected as by Yu et al., Gradient Surgery for Multi-Task Learning, NeurIPS 2020 (PCGrad), but once, on the user
vectors instead of all weights, as Sener and Koltun bound the weights' gradients: Multi-Task Learning as Multi-Objective
Optimization, NeurIPS 2018.
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
    """One expert head per event type, used in training only."""

    weight: float = 0.3
    """Weight of all tasks together; the loss on the log has weight 1."""
    hidden: int = 32
    """Width of an expert."""
    min_events: int = stored_as("fewest_events", 1000)
    """An event type with fewer events is no task."""
    targets: int = 512
    """Targets per task and step at most."""
    name: str = "multi_task"
    _measured: dict[str, float] = field(default_factory=dict, repr=False)

    def describe(self) -> dict[str, Any]:
        """See `Strategy`."""
        return stored_settings(self)

    def measured(self) -> dict[str, float]:
        """Each task's share of the events about items; empty if there are fewer than two tasks."""
        return self._measured

    def prepare(
        self, encoder: SharedEncoder, data: TrainingData, random: np.random.Generator, done: Done
    ) -> TaskLoss | None:
        """Create the heads; None if fewer than two event types have enough events. The encoder does not change."""
        counts = np.bincount(data.sequences.type[data.sequences.has_item], minlength=len(EVENT_TYPES))
        tasks = np.flatnonzero(counts >= max(self.min_events, 1)).tolist()
        self._measured = {}
        if len(tasks) < 2:
            return None
        self._measured = {f"multi_task_{EVENT_TYPES[task]}": float(counts[task] / counts.sum()) for task in tasks}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(random.integers(2**31)))
            return TaskLoss(data.sequences, tasks, encoder.config.dims, self)


class Expert(nn.Module):
    """One task's query: the shared user vector plus a gated deviation, which is 0 at first."""

    def __init__(self, dims: int, hidden: int) -> None:
        super().__init__()
        self.inner = nn.Linear(dims, hidden)
        self.outer = nn.Linear(hidden, dims)
        self.gate = nn.Linear(dims, 1)
        nn.init.zeros_(self.outer.weight)
        nn.init.zeros_(self.outer.bias)

    def forward(self, users: Tensor) -> Tensor:
        """User vectors [m, d] → the task's query vectors [m, d]."""
        direction = F.normalize(users, dim=-1)  # [m, d]
        deviation = torch.sigmoid(self.gate(direction)) * self.outer(F.gelu(self.inner(direction)))  # [m, d]
        query: Tensor = users + users.norm(dim=-1, keepdim=True) * deviation
        return query


class TaskLoss(nn.Module):
    """Mean loss of the tasks. Its gradient reaches the encoder only through the user vectors, where it is projected."""

    def __init__(self, sequences: Sequences, tasks: list[int], dims: int, config: MultiTask) -> None:
        super().__init__()
        self.sequences, self.tasks, self.config = sequences, tasks, config
        self.experts = nn.ModuleList(Expert(dims, config.hidden) for _ in tasks)

    def forward(self, step: TrainingStep) -> Tensor:
        """A weighted scalar. A task without a target in this step has loss 0."""
        (main,) = torch.autograd.grad(step.log_loss, step.users, retain_graph=True)  # [B, L, d]
        losses = [
            self._loss(step, project_gradient(step.users, main), task, expert)
            for task, expert in zip(self.tasks, self.experts, strict=True)
        ]
        mean: Tensor = self.config.weight * torch.stack(losses).mean()
        return mean

    def _loss(self, step: TrainingStep, users: Tensor, task: int, expert: nn.Module) -> Tensor:
        chosen = np.flatnonzero(self.sequences.type[step.target] == task)[: self.config.targets]
        queries = expert(users[torch.from_numpy(step.mask)][torch.from_numpy(chosen)])  # [m, d]
        targets = step.items.targets(self.sequences.item[step.target[chosen]]).detach()
        return sampled_softmax(queries, targets, step.negatives.detach())


def project_gradient(shared: Tensor, main: Tensor) -> Tensor:
    """The same values as `shared`; a gradient through them passes `without_conflict` with `main`, of equal shape."""
    projected = shared.view_as(shared)
    projected.register_hook(  # type: ignore[no-untyped-call]
        lambda gradient: without_conflict(gradient, main)
    )
    return projected


def without_conflict(gradient: Tensor, main: Tensor) -> Tensor:
    """The gradient; if its inner product with `main` is negative, its projection onto the plane orthogonal to `main`.

    So, to first order, a step along it does not increase the main loss.
    """
    agreement = (gradient * main).sum()
    return gradient if agreement >= 0 else gradient - agreement / main.square().sum() * main
