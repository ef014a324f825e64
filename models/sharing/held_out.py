"""Moments of a course that are kept from training, to tell how well an encoder foresees."""

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
from models.networks.sampled_softmax import NegativeSampler, sampled_softmax
from models.sharing.strategy import ItemVectors, TrainingData
from models.sharing.training import Training


def held_out_rows(sequences: Sequences, share: float, most: int) -> Positions:
    """The last events of users who have an earlier one, the newest `share` of them, at most `most`; sorted."""
    last = sequences.start[1:] - 1
    last = last[last > sequences.start[:-1]]
    count = min(math.ceil(share * len(last)), most)
    newest = np.argsort(sequences.ts[last], kind="stable")[len(last) - count :]
    return np.sort(last[newest])


@dataclass(frozen=True)
class HeldOutPoints:
    """M moments, and what came: windows of up to L events, and the items that followed them."""

    windows: tuple[Tensor, Tensor, Tensor]  # [M, L, d], [M, L], [M, L]: item vectors, types, seconds since
    last: Tensor  # [M], place of the last event
    positives: Tensor  # [M, d]
    negatives: Tensor  # [n, d]
    log_q: Tensor  # [n]

    @classmethod
    @torch.no_grad()
    def of(
        cls,
        encoder: SharedEncoder,
        data: TrainingData,
        rows: Positions,
        training: Training,
        random: np.random.Generator,
    ) -> HeldOutPoints:
        """The moments right before the events at rows [M]."""
        sequences, items = data.sequences, ItemVectors(encoder.eval(), data)
        begin = sequences.start[np.searchsorted(sequences.start, rows, side="right") - 1]
        windows = sequences.gather(np.stack([np.maximum(begin, rows - training.window), rows], axis=1))
        negatives = NegativeSampler.from_items(sequences.item, len(data.numbers))
        drawn = negatives.draw(training.negatives, random)
        return cls(
            windows=(
                items.of(sequences.item[windows.row]),
                torch.from_numpy(sequences.type[windows.row].astype(np.int64)),
                torch.from_numpy(sequences.seconds_since[windows.row]),
            ),
            last=torch.from_numpy(windows.present.sum(axis=1) - 1),
            positives=items.of(sequences.item[rows]),
            negatives=items.of(drawn),
            log_q=negatives.log_probability[drawn],
        )

    @torch.no_grad()
    def loss(self, step: LinearRecurrentUnit, delta: Mapping[str, Tensor]) -> float:
        """Mean surprise at what came, for a step whose weights are changed by `delta`."""
        weights = {name: weight + delta[name] for name, weight in step.named_parameters()}
        users = functional_call(step.eval(), weights, self.windows)  # [M, L, d]
        asking = users[torch.arange(len(users)), self.last]  # [M, d]
        return float(sampled_softmax(asking, self.positives, self.negatives, self.log_q))
