"""Prediction points that are held out from training, to measure how well an encoder predicts."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.func import functional_call

from models.data.sequences import Positions, Sequences
from models.networks.encoder import LinearRecurrentUnit, SharedEncoder
from models.networks.sampled_softmax import Negatives, NegativeSampler, Targets, sampled_softmax
from models.sharing.strategy import CatalogueVectors, TrainingData
from models.sharing.training import Training


def held_out_rows(sequences: Sequences, share: float, max_rows: int) -> Positions:
    """The last visits of users with an earlier event: the newest `share` of them, at most `max_rows`; sorted by row."""
    visits = sequences.visits_until[sequences.start[1:] - 1]  # [U], of each user and the users before
    last = np.append(sequences.visit_row, -1)[visits - 1]  # of a user without visits it is not the user's own
    last = last[last > sequences.start[:-1]]
    count = min(math.ceil(share * len(last)), max_rows)
    newest = np.argsort(sequences.ts[last], kind="stable")[len(last) - count :]
    return np.sort(last[newest])


@dataclass(frozen=True)
class ValidationPoints:
    """M prediction points: encoder inputs for windows of up to L events, and the item that followed each window."""

    inputs: tuple[Tensor, Tensor, Tensor]  # [M, L, d], [M, L], [M, L]: item vectors, event types, seconds
    last: Tensor  # [M], index of the last event in its window
    targets: Targets  # M
    negatives: Negatives

    @classmethod
    @torch.no_grad()
    def before_rows(
        cls,
        encoder: SharedEncoder,
        data: TrainingData,
        rows: Positions,
        training: Training,
        random: np.random.Generator,
    ) -> ValidationPoints:
        """The prediction points right before the events at rows [M]."""
        sequences, items = data.sequences, CatalogueVectors(encoder.eval(), data)
        begin = sequences.start[np.searchsorted(sequences.start, rows, side="right") - 1]
        windows = sequences.gather(np.stack([np.maximum(begin, rows - training.window), rows], axis=1))
        sampler = NegativeSampler.from_items(sequences.item[sequences.visit_row], len(data.numbers))
        return cls(
            inputs=items.inputs(sequences, windows.row),
            last=torch.from_numpy(windows.present.sum(axis=1) - 1),
            targets=items.targets(sequences.item[rows]),
            negatives=sampler.draw(training.negatives, random, items.at),
        )

    @torch.no_grad()
    def loss(self, step: LinearRecurrentUnit, delta: Mapping[str, Tensor]) -> float:
        """Mean negative log-likelihood of the targets after `delta` is added to the weights of `step`."""
        weights = {name: weight + delta[name] for name, weight in step.named_parameters()}
        users = functional_call(step.eval(), weights, self.inputs)  # [M, L, d]
        last = users[torch.arange(len(users)), self.last]  # [M, d]
        return float(sampled_softmax(last, self.targets, self.negatives))
