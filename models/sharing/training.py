"""How the shared encoder is trained: on the log, and on whatever the strategies add."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from models.data.sequences import Positions
from models.networks.encoder import SharedEncoder
from models.networks.sampled_softmax import NegativeSampler, draw_targets, sampled_softmax
from models.networks.stored_names import stored_as
from models.sharing.strategy import AuxiliaryLoss, ItemVectors, Strategy, TrainingData, TrainingStep
from models.stages import Done
from models.training_curves import Curve, no_curve

PREPARING_SHARE = 0.2
"""Of the whole time, for progress."""
ON_THE_LOG = "loss_log"


@dataclass(frozen=True)
class Training:
    """One run of the optimiser. A child starts from its parent's weights, on what is fresh and some of the old."""

    epochs: int = 8
    child_epochs: int = 2
    replay: float = 0.25
    """Share of the old windows that a child sees again, so that it does not forget."""
    window: int = 64
    events_per_step: int = stored_as("events_a_step", 2048)
    negatives: int = 2048
    mean_target_gap: float = stored_as("ahead", 1.0)
    """Mean number of events from a moment to the target drawn for it. 1: always the next; more where the order of
    events means little, as within a basket."""
    event_dropout: float = 0.0
    """Share of the events whose item is hidden from the encoder."""
    learning_rate: float = 4e-3
    child_rate: float = 1e-3
    weight_decay: float = 0.01
    warm_up: float = 0.07
    """Share of the steps over which the rate rises; then it falls along a cosine."""


def train(
    encoder: SharedEncoder,
    data: TrainingData,
    strategies: Sequence[Strategy],
    training: Training,
    random_seed: int,
    done: Done = lambda share: None,
    curve: Curve = no_curve,
) -> dict[str, float]:
    """Train the encoder in place; returns the last epoch's losses, and what the strategies measured."""
    torch.set_flush_denormal(True)  # products of many fades are tiny, and denormal floats cost tenfold
    torch.manual_seed(random_seed)
    random = np.random.default_rng(random_seed)
    measured: dict[str, float] = {}
    auxiliary_losses: dict[str, AuxiliaryLoss] = {}
    for strategy in strategies:
        term = strategy.prepare(encoder, data, random, lambda share: done(share * PREPARING_SHARE / len(strategies)))
        measured |= strategy.measured()
        if term is not None:
            auxiliary_losses[f"loss_{strategy.name}"] = term
    run = _Run(encoder.train(), data, auxiliary_losses, training, random)
    share_left = 1 - PREPARING_SHARE if strategies else 1.0
    losses = {}
    for _ in range(run.epochs):
        losses = run.epoch(lambda share: done(share * share_left), curve)
    encoder.eval()
    return {**losses, **measured}


class _Run:
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
        self.items = ItemVectors(encoder, data)
        self.negatives = NegativeSampler.from_items(data.sequences.item, len(data.numbers))
        child = data.new_since_ms > 0
        self.epochs = training.child_epochs if child else training.epochs
        self.rate = training.child_rate if child else training.learning_rate
        table = encoder.item.residual.weight
        others = [weight for weight in encoder.parameters() if weight is not table]
        others += [
            weight for term in auxiliary_losses.values() if isinstance(term, nn.Module) for weight in term.parameters()
        ]
        self.optimiser = torch.optim.AdamW(
            [{"params": [table], "weight_decay": 0.0}, {"params": others, "weight_decay": training.weight_decay}],
            lr=self.rate,
        )
        self.steps = 0

    def epoch(self, done: Done, curve: Curve) -> dict[str, float]:
        """One pass over the windows; mean losses by name."""
        batches = self.data.sequences.batches(self._windows(), self.training.events_per_step, self.random)
        totals = dict.fromkeys([ON_THE_LOG, *self.auxiliary_losses], 0.0)
        for bounds in batches:
            self._set_rate(self.epochs * len(batches))
            losses = self._losses(bounds)
            self._descend(torch.stack(list(losses.values())).sum())
            for name, loss in losses.items():
                value = float(loss.detach())
                totals[name] += value / len(batches)
                curve(name, value, self.steps)
            done(1 / len(batches) / self.epochs)
        return totals

    def _windows(self) -> Positions:
        sequences = self.data.sequences
        bounds = sequences.windows(self.training.window, self.random)
        old = sequences.ts[bounds[:, 1] - 1] < self.data.new_since_ms
        return bounds[~old | (self.random.random(len(bounds)) < self.training.replay)]

    def _losses(self, bounds: Positions) -> dict[str, Tensor]:
        step = self._step(bounds)
        return {ON_THE_LOG: step.on_the_log, **{name: term(step) for name, term in self.auxiliary_losses.items()}}

    def _step(self, bounds: Positions) -> TrainingStep:
        sequences, training = self.data.sequences, self.training
        windows = sequences.gather(bounds)
        shown = torch.from_numpy(self.random.random(windows.row.shape) >= training.event_dropout)
        users = self.encoder.step(
            self.items.of(sequences.item[windows.row]) * shown.unsqueeze(-1),
            torch.from_numpy(sequences.type[windows.row].astype(np.int64)),
            torch.from_numpy(sequences.seconds_since[windows.row]),
        )
        drawn = self.negatives.draw(training.negatives, self.random)
        negatives, log_q = self.items.of(drawn), self.negatives.log_probability[drawn]
        where, target = draw_targets(
            sequences,
            windows,
            training.mean_target_gap,
            training.events_per_step,
            self.random,
            self.data.targets,
        )
        positives = self.items.of(sequences.item[target])
        return TrainingStep(
            windows=windows,
            users=users,
            items=self.items,
            negative_items=drawn,
            negatives=negatives,
            negatives_log_q=log_q,
            where=where,
            target=target,
            on_the_log=sampled_softmax(users[torch.from_numpy(where)], positives, negatives, log_q),
        )

    def _set_rate(self, steps: int) -> None:
        share = self.steps / steps
        rising = min(1.0, share / self.training.warm_up)
        factor = rising * (0.5 + 0.5 * math.cos(math.pi * share))
        for group in self.optimiser.param_groups:
            group["lr"] = self.rate * max(factor, 0.005)
        self.steps += 1

    def _descend(self, loss: Tensor) -> None:
        self.optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.encoder.parameters(), 1.0)
        self.optimiser.step()
