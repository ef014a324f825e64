"""The sequence seed: a gated recurrent unit on ids, free of text and of the encoder's linear memory."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from models.log import EventLog
from models.sampled_softmax import Negatives, draw_targets, sampled_softmax
from models.seeds.seed import Done, Lesson, Vectors, top
from models.sequences import Contexts, Positions, Sequences


@dataclass(frozen=True)
class GruConfig:
    """Size of the network, and how it is trained."""

    dims: int = 64
    window: int = 64
    epochs: int = 4
    windows_a_step: int = 64
    targets_a_step: int = 2048
    negatives: int = 512
    ahead: float = 8.0
    learning_rate: float = 3e-3


class Gru(nn.Module):
    """Hidasi et al., Session-based Recommendations with Recurrent Neural Networks, ICLR 2016, on ids alone."""

    def __init__(self, items: int, config: GruConfig) -> None:
        super().__init__()
        self.item = nn.Embedding(items, config.dims)
        self.unit = nn.GRU(config.dims, config.dims, batch_first=True)
        self.norm = nn.LayerNorm(config.dims)
        nn.init.normal_(self.item.weight, std=config.dims**-0.5)

    def forward(self, items: Tensor) -> Tensor:
        """Items [B, L] int64 → user vectors [B, L, d] after each."""
        x = self.item(items)  # [B, L, d]
        user: Tensor = self.norm(x + self.unit(x)[0])
        return user


@dataclass
class SequenceSeed:
    """Trains a `Gru` on a log's windows."""

    seed: int = 0
    config: GruConfig = field(default_factory=GruConfig)
    name: str = "sequence"

    def fit(self, log: EventLog, text_vectors: Vectors, done: Done) -> None:
        """Train from scratch; item numbers are rows of the text vectors, which are not read."""
        torch.manual_seed(self.seed)
        random = np.random.default_rng(self.seed)
        sequences = Sequences.of(log)
        self._known, dense = np.unique(sequences.item, return_inverse=True)  # the network holds known items only
        self._number = np.full(len(text_vectors), -1, np.int64)
        self._number[self._known] = np.arange(len(self._known))
        negatives = Negatives.of(dense, len(self._known))
        self._model = Gru(len(self._known), self.config)
        optimiser = torch.optim.AdamW(self._model.parameters(), self.config.learning_rate)
        for _ in range(self.config.epochs):
            windows = sequences.windows(self.config.window, random)
            for start in range(0, len(windows), self.config.windows_a_step):
                bounds = windows[start : start + self.config.windows_a_step]
                loss = self._loss(sequences, dense, negatives, bounds, random)
                optimiser.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimiser.step()
                done(len(bounds) / len(windows) / self.config.epochs)
        self._model.eval()

    @torch.no_grad()
    def teach(self, contexts: Contexts, k: int) -> Lesson:
        """Confidence: the probability it gives its list."""
        recent = contexts.recent[:, : self.config.window]
        numbers = np.where(recent >= 0, self._number[recent], -1)
        oldest_first, length = _pack(numbers)
        users = self._model(torch.from_numpy(oldest_first))  # [B, L, d]
        last = users[torch.arange(len(users)), torch.from_numpy(np.maximum(length - 1, 0))]  # [B, d]
        probability = torch.softmax(last @ self._model.item.weight.T, dim=-1).numpy()
        items = top(probability, k)
        confidence = np.take_along_axis(probability, items, axis=1).sum(axis=1)
        return Lesson(self._known[items].astype(np.int32), np.where(length > 0, confidence, 0).astype(np.float32))

    def _loss(
        self,
        sequences: Sequences,
        dense: Positions,
        negatives: Negatives,
        bounds: Positions,
        random: np.random.Generator,
    ) -> Tensor:
        windows = sequences.gather(bounds)
        where, target = draw_targets(sequences, windows, self.config.ahead, self.config.targets_a_step, random)
        users = self._model(torch.from_numpy(dense[windows.row]))[torch.from_numpy(where)]  # [n, d]
        drawn = torch.from_numpy(negatives.draw(self.config.negatives, random))
        positives = self._model.item(torch.from_numpy(dense[target]))
        return sampled_softmax(users, positives, self._model.item(drawn), negatives.log_probability[drawn])


def _pack(numbers: Positions) -> tuple[Positions, Positions]:
    """Newest first with gaps [B, R] → oldest first without, 0 padded behind [B, R], and lengths [B]."""
    flipped = numbers[:, ::-1]
    order = np.argsort(flipped < 0, axis=1, kind="stable")
    packed = np.take_along_axis(flipped, order, axis=1)
    return np.maximum(packed, 0), (numbers >= 0).sum(axis=1)
