"""Training of the shared encoder: the loss on the log, plus the auxiliary losses of the strategies."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from models.data.event_log import NONE
from models.data.sequences import Positions
from models.networks.encoder import SharedEncoder
from models.networks.sampled_softmax import NegativeSampler, draw_targets, sampled_softmax
from models.networks.stored_names import stored_as
from models.sharing.strategy import AuxiliaryLoss, CatalogueVectors, Strategy, TrainingData, TrainingStep
from models.stages import Done
from models.training_curves import Curve, no_curve

PREPARATION_SHARE = 0.2
"""Share of the progress bar that the strategies' preparation takes."""
LOG_LOSS = "loss_log"
MIN_RATE_FACTOR = 0.005
MAX_GRADIENT_NORM = 1.0


@dataclass(frozen=True)
class Training:
    """Settings of one run of the optimiser.

    A child starts from its parent's weights and trains on the new events and a sample of the old ones.
    """

    epochs: int = 8
    catching_up_epochs: int = 2
    """Of a first release, on the window that was held out for the list ranker. After many of them the encoder is no
    longer the one whose features trained the list ranker."""
    child_epochs: int = 2
    replay: float = 0.25
    """Share of the old windows that a child trains on in each epoch, against catastrophic forgetting."""
    window: int = 64
    """Events per window."""
    events_per_step: int = stored_as("events_a_step", 2048)
    negatives: int = 2048
    mean_target_gap: float = stored_as("ahead", 1.0)
    """Mean number of events about items from a prediction point to its target. 1: always the next one. Use more if the
    order of events means little, as within a basket."""
    event_dropout: float = 0.0
    """Share of the events whose item or search vector is set to 0 at the encoder's input."""
    learning_rate: float = 4e-3
    child_rate: float = 1e-3
    """Learning rate of a child, and of catching up."""
    weight_decay: float = 0.01
    warm_up: float = 0.07
    """Share of the steps in which the learning rate rises; then it follows a cosine down."""


@dataclass(frozen=True)
class TrainingObserver:
    """Callbacks that follow a training run."""

    done: Done = lambda share: None
    """Called with each share (0 to 1) of the work as it is completed."""
    curve: Curve = no_curve
    """Called with each loss at each step."""


@contextmanager
def _denormals_as_zero() -> Iterator[None]:
    """Products of many decays are tiny, and denormal floats are ten times slower.

    The processor's mode is that of the whole thread, so it is set back: other code may count on IEEE 754.
    """
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)


@_denormals_as_zero()
def train(
    encoder: SharedEncoder,
    data: TrainingData,
    strategies: Sequence[Strategy],
    training: Training,
    random_seed: int,
    observer: TrainingObserver = TrainingObserver(),
) -> dict[str, float]:
    """Train the encoder in place. Returns the mean losses of the last epoch, and what the strategies measured."""
    torch.manual_seed(random_seed)
    random = np.random.default_rng(random_seed)
    measured: dict[str, float] = {}
    auxiliary_losses: dict[str, AuxiliaryLoss] = {}
    preparation_share = PREPARATION_SHARE if strategies else 0.0
    for strategy in strategies:
        loss = strategy.prepare(
            encoder, data, random, lambda share: observer.done(share * preparation_share / len(strategies))
        )
        measured |= strategy.measured()
        if loss is not None:
            auxiliary_losses[f"loss_{strategy.name}"] = loss
    run = _TrainingRun(encoder.train(), data, auxiliary_losses, training, random)
    losses = {}
    for _ in range(run.epochs):
        losses = run.epoch(lambda share: observer.done(share * (1 - preparation_share)), observer.curve)
    encoder.eval()
    return {**losses, **measured}


def _epochs(training: Training, data: TrainingData) -> int:
    if not data.new_since_ms:
        return training.epochs
    return training.child_epochs if data.child else training.catching_up_epochs


class _TrainingRun:
    """One run of the optimiser: its state between steps."""

    def __init__(
        self,
        encoder: SharedEncoder,
        data: TrainingData,
        auxiliary_losses: dict[str, AuxiliaryLoss],
        training: Training,
        random: np.random.Generator,
    ) -> None:
        self.encoder, self.data, self.auxiliary_losses = encoder, data, auxiliary_losses
        self.training, self.random = training, random
        self.items = CatalogueVectors(encoder, data)
        visited = data.sequences.item[data.sequences.visit_row]
        self.sampler = NegativeSampler.from_items(visited, len(data.numbers))
        self.continues = data.new_since_ms > 0
        self.epochs = _epochs(training, data)
        self.rate = training.child_rate if self.continues else training.learning_rate
        self.optimiser = self._optimiser()
        self.steps = 0

    def epoch(self, done: Done, curve: Curve) -> dict[str, float]:
        """One pass over the windows; returns mean losses by name."""
        windows = self._windows()
        idle = self._idle_residuals(windows) if self.continues else None
        batches = self.data.sequences.batches(windows, self.training.events_per_step, self.random)
        totals = dict.fromkeys([LOG_LOSS, *self.auxiliary_losses], 0.0)
        for bounds in batches:
            self._set_rate(self.epochs * len(batches))
            losses = self._losses(bounds)
            self._descend(torch.stack(list(losses.values())).sum(), idle)
            for name, loss in losses.items():
                value = float(loss.detach())
                totals[name] += value / len(batches)
                curve(name, value, self.steps)
            done(1 / len(batches) / self.epochs)
        return totals

    def _optimiser(self) -> torch.optim.Optimizer:
        """AdamW over the encoder and the auxiliary losses; residuals of items have no weight decay."""
        residuals = self.encoder.item.residual.weight
        others = [weight for weight in self.encoder.parameters() if weight is not residuals]
        modules = [loss for loss in self.auxiliary_losses.values() if isinstance(loss, nn.Module)]
        others += [weight for module in modules for weight in module.parameters()]
        decay = self.training.weight_decay
        return torch.optim.AdamW(
            [{"params": [residuals], "weight_decay": 0.0}, {"params": others, "weight_decay": decay}],
            lr=self.rate,
            fused=True,  # one pass over the residuals of a large catalogue instead of ten
        )

    def _windows(self) -> Positions:
        """Bounds [W, 2] of all new windows, and of a sample of the old ones."""
        sequences = self.data.sequences
        bounds = sequences.windows(self.training.window, self.random)
        old = sequences.ts[bounds[:, 1] - 1] < self.data.new_since_ms
        return bounds[~old | (self.random.random(len(bounds)) < self.training.replay)]

    def _losses(self, bounds: Positions) -> dict[str, Tensor]:
        step = self._step(bounds)
        return {LOG_LOSS: step.log_loss, **{name: loss(step) for name, loss in self.auxiliary_losses.items()}}

    def _step(self, bounds: Positions) -> TrainingStep:
        sequences, training = self.data.sequences, self.training
        windows = sequences.gather(bounds)
        visible = torch.from_numpy(self.random.random(windows.row.shape) >= training.event_dropout)
        vectors, types, seconds = self.items.inputs(sequences, windows.row)
        users = self.encoder.step(vectors * visible.unsqueeze(-1), types, seconds)
        negatives = self.sampler.draw(training.negatives, self.random, self.items.at)
        mask, target = draw_targets(
            sequences, windows, training.mean_target_gap, training.events_per_step, self.random, self.data.targets
        )
        targets = self.items.targets(sequences.item[target])
        return TrainingStep(
            windows=windows,
            users=users,
            items=self.items,
            negatives=negatives,
            mask=mask,
            target=target,
            log_loss=sampled_softmax(users[torch.from_numpy(mask)], targets, negatives),
        )

    def _set_rate(self, steps: int) -> None:
        """Linear warm-up times a cosine. `steps` is an estimate: each epoch cuts the windows anew."""
        share = self.steps / steps
        factor = min(1.0, share / self.training.warm_up) * (0.5 + 0.5 * math.cos(math.pi * share))
        for group in self.optimiser.param_groups:
            group["lr"] = self.rate * max(factor, MIN_RATE_FACTOR)
        self.steps += 1

    def _idle_residuals(self, bounds: Positions) -> Tensor:
        """Rows of the residuals of items that none of the windows [W, 2] has.

        In a child most old items are negatives alone. Adam makes steps of its rate of their small gradients, which then
        move items away that nothing was learned about, the more so the rarer they are.
        """
        item = self.data.sequences.item[self.data.sequences.covered(bounds)]
        is_idle = np.ones(len(self.encoder.item.residual.weight), np.bool_)
        is_idle[self.data.numbers[item[item != NONE]]] = False
        return torch.from_numpy(np.flatnonzero(is_idle))

    def _descend(self, loss: Tensor, idle: Tensor | None) -> None:
        self.optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        gradient = self.encoder.item.residual.weight.grad
        if idle is not None and gradient is not None:
            gradient[idle] = 0
        torch.nn.utils.clip_grad_norm_(self.encoder.parameters(), MAX_GRADIENT_NORM)
        self.optimiser.step()
