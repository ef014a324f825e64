"""Sequence seed models: networks on item ids, trained on windows of the log to predict later items."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.data.event_log import EventLog
from models.data.sequences import Contexts, Positions, Sequences
from models.networks.sampled_softmax import NegativeSampler, Targets, draw_targets, sampled_softmax
from models.seeds.gru import GruConfig
from models.seeds.network import IdNetwork, NetworkConfig
from models.seeds.seed_model import TopK, Vectors, top_k_items
from models.stages import Done

WARM_UP_SLOPE = 20
"""The learning rate rises over the first 1/20 of the training."""
MIN_RATE_FACTOR = 0.01


@dataclass
class SequenceSeedModel:
    """Trains the network of `config` on sequences of item ids."""

    random_seed: int = 0
    config: NetworkConfig = field(default_factory=GruConfig)
    name: str = "sequence"

    def fit(self, log: EventLog, text_vectors: Vectors, done: Done) -> None:
        """Train from scratch. The text vectors only give the size of the catalogue."""
        torch.manual_seed(self.random_seed)
        sequences = Sequences.from_log(log)
        self._items, dense = np.unique(sequences.item, return_inverse=True)  # the network has the log's items only
        self._number = np.full(len(text_vectors), -1, np.int64)
        self._number[self._items] = np.arange(len(self._items))
        self._network = self.config.network(len(self._items))
        random = np.random.default_rng(self.random_seed)
        training = _Training(self.config, self._network, sequences, dense, random)
        for _ in range(self.config.epochs):
            training.epoch(done)
        self._network.eval()

    @torch.no_grad()
    def predict_top_k(self, contexts: Contexts, k: int) -> TopK:
        """See `SeedModel`. Confidence: the total probability of the list."""
        recent = contexts.recent[:, : self.config.window]
        numbers = np.where(recent >= 0, self._number[recent], -1)
        oldest_first, length = _pack(numbers)
        users = self._network(torch.from_numpy(oldest_first))  # [B, L, d]
        last = users[torch.arange(len(users)), torch.from_numpy(np.maximum(length - 1, 0))]  # [B, d]
        probability = torch.softmax(last @ self._network.item.weight.T, dim=-1).numpy()
        items = top_k_items(probability, k)
        confidence = np.take_along_axis(probability, items, axis=1).sum(axis=1)
        return TopK(self._items[items].astype(np.int32), np.where(length > 0, confidence, 0).astype(np.float32))


class _Training:
    """One run of the optimiser. `dense` [N] are the network's numbers of the log's items."""

    def __init__(
        self,
        config: NetworkConfig,
        network: IdNetwork,
        sequences: Sequences,
        dense: NDArray[np.int64],
        random: np.random.Generator,
    ) -> None:
        self.config, self.network, self.sequences, self.random = config, network, sequences, random
        self.dense = dense
        self.sampler = NegativeSampler.from_items(dense, network.item.num_embeddings)
        self.optimiser = torch.optim.AdamW(network.parameters(), config.learning_rate, fused=True)
        self.share = 0.0
        """Share of the training that is done, 0 to 1."""

    def epoch(self, done: Done) -> None:
        """One pass over the windows."""
        windows = self.sequences.windows(self.config.window, self.random)
        for bounds in self.sequences.batches(windows, self.config.events_per_step, self.random):
            self._set_rate()
            loss = self._loss(bounds)
            self.optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            self.optimiser.step()
            step = len(bounds) / len(windows) / self.config.epochs
            self.share += step
            done(step)

    def _loss(self, bounds: Positions) -> Tensor:
        config, windows = self.config, self.sequences.gather(bounds)
        mask, target = draw_targets(
            self.sequences, windows, config.mean_target_gap, config.events_per_step, self.random
        )
        users = self.network(torch.from_numpy(self.dense[windows.row]))[torch.from_numpy(mask)]  # [m, d]
        negatives = self.sampler.draw(config.negatives, self.random, self._vectors)
        positives = self.dense[target]
        return sampled_softmax(users, Targets(positives, self._vectors(positives)), negatives)

    def _vectors(self, numbers: NDArray[np.int64]) -> Tensor:
        """Item vectors [m, d] of the network's numbers [m]."""
        vectors: Tensor = self.network.item(torch.from_numpy(numbers))
        return vectors

    def _set_rate(self) -> None:
        """Linear warm-up times a cosine."""
        factor = min(1.0, self.share * WARM_UP_SLOPE) * (0.5 + 0.5 * math.cos(math.pi * min(self.share, 1.0)))
        for group in self.optimiser.param_groups:
            group["lr"] = self.config.learning_rate * max(factor, MIN_RATE_FACTOR)


def _pack(numbers: Positions) -> tuple[Positions, Positions]:
    """Item numbers [B, R], newest first, -1 for gaps → oldest first without gaps, padded with 0 at the end [B, R], and
    lengths [B]."""
    flipped = numbers[:, ::-1]
    order = np.argsort(flipped < 0, axis=1, kind="stable")
    packed = np.take_along_axis(flipped, order, axis=1)
    return np.maximum(packed, 0), (numbers >= 0).sum(axis=1)
