"""Sequence seeds: networks on ids, trained on windows of the log to tell what comes next."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.data.event_log import EventLog
from models.data.sequences import Contexts, Positions, Sequences
from models.networks.sampled_softmax import NegativeSampler, draw_targets, sampled_softmax
from models.seeds.gru import GruConfig
from models.seeds.network import IdNetwork, NetworkConfig
from models.seeds.seed_model import TopK, Vectors, top
from models.stages import Done


@dataclass
class SequenceSeedModel:
    """Trains the network that `config` describes, on nothing but the order of ids."""

    random_seed: int = 0
    config: NetworkConfig = field(default_factory=GruConfig)
    name: str = "sequence"

    def fit(self, log: EventLog, text_vectors: Vectors, done: Done) -> None:
        """Train from scratch; item numbers are rows of the text vectors, which are not read."""
        torch.manual_seed(self.random_seed)
        sequences = Sequences.from_log(log)
        self._known, dense = np.unique(sequences.item, return_inverse=True)  # the network holds known items only
        self._number = np.full(len(text_vectors), -1, np.int64)
        self._number[self._known] = np.arange(len(self._known))
        self._network = self.config.network(len(self._known))
        training = _Training(self.config, self._network, sequences, dense, np.random.default_rng(self.random_seed))
        for _ in range(self.config.epochs):
            training.epoch(done)
        self._network.eval()

    @torch.no_grad()
    def predict_top_k(self, contexts: Contexts, k: int) -> TopK:
        """Confidence: the probability it gives its list."""
        recent = contexts.recent[:, : self.config.window]
        numbers = np.where(recent >= 0, self._number[recent], -1)
        oldest_first, length = _pack(numbers)
        users = self._network(torch.from_numpy(oldest_first))  # [B, L, d]
        last = users[torch.arange(len(users)), torch.from_numpy(np.maximum(length - 1, 0))]  # [B, d]
        probability = torch.softmax(last @ self._network.item.weight.T, dim=-1).numpy()
        items = top(probability, k)
        confidence = np.take_along_axis(probability, items, axis=1).sum(axis=1)
        return TopK(self._known[items].astype(np.int32), np.where(length > 0, confidence, 0).astype(np.float32))


class _Training:
    """One run of the optimiser over a log whose items are `dense` [N], numbers of the network's."""

    def __init__(
        self,
        config: NetworkConfig,
        network: IdNetwork,
        sequences: Sequences,
        dense: NDArray[np.int64],
        random: np.random.Generator,
    ) -> None:
        self.config, self.network, self.sequences, self.random = config, network, sequences, random
        self.dense = torch.from_numpy(dense)
        self.negatives = NegativeSampler.from_items(dense, network.item.num_embeddings)
        self.optimiser = torch.optim.AdamW(network.parameters(), config.learning_rate)
        self.share = 0.0

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
        where, target = draw_targets(
            self.sequences, windows, config.mean_target_gap, config.events_per_step, self.random
        )
        users = self.network(self.dense[windows.row])[torch.from_numpy(where)]  # [n, d]
        drawn = torch.from_numpy(self.negatives.draw(config.negatives, self.random))
        positives = self.network.item(self.dense[target])
        return sampled_softmax(users, positives, self.network.item(drawn), self.negatives.log_probability[drawn])

    def _set_rate(self) -> None:
        """Up over the first twentieth, then down along a cosine."""
        factor = min(1.0, self.share * 20) * (0.5 + 0.5 * math.cos(math.pi * min(self.share, 1.0)))
        for group in self.optimiser.param_groups:
            group["lr"] = self.config.learning_rate * max(factor, 0.01)


def _pack(numbers: Positions) -> tuple[Positions, Positions]:
    """Newest first with gaps [B, R] → oldest first without, 0 padded behind [B, R], and lengths [B]."""
    flipped = numbers[:, ::-1]
    order = np.argsort(flipped < 0, axis=1, kind="stable")
    packed = np.take_along_axis(flipped, order, axis=1)
    return np.maximum(packed, 0), (numbers >= 0).sum(axis=1)
