"""The sequence seed: self-attention over a window, which sees more than an O(1) step can keep."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.log import EventLog
from models.sampled_softmax import Negatives, draw_targets, sampled_softmax
from models.seeds.seed import Done, Lesson, Vectors, top
from models.sequences import Contexts, Positions, Sequences


@dataclass(frozen=True)
class AttentionConfig:
    """Size of the network, and how it is trained."""

    dims: int = 64
    heads: int = 2
    blocks: int = 1
    window: int = 64
    epochs: int = 4
    windows_a_step: int = 64
    targets_a_step: int = 2048
    negatives: int = 512
    ahead: float = 8.0
    learning_rate: float = 3e-3


class Block(nn.Module):
    """Causal attention, then a feed-forward layer, each beside a straight line."""

    def __init__(self, config: AttentionConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.before_attention = nn.LayerNorm(config.dims)
        self.query_key_value = nn.Linear(config.dims, 3 * config.dims)
        self.gather = nn.Linear(config.dims, config.dims)
        self.before_feed = nn.LayerNorm(config.dims)
        self.widen = nn.Linear(config.dims, 2 * config.dims)
        self.narrow = nn.Linear(2 * config.dims, config.dims)

    def forward(self, x: Tensor) -> Tensor:
        """[B, L, d] → [B, L, d]."""
        x = x + self._attend(self.before_attention(x))
        fed: Tensor = self.narrow(F.gelu(self.widen(self.before_feed(x))))
        return x + fed

    def _attend(self, x: Tensor) -> Tensor:
        batch, length, dims = x.shape
        split = self.query_key_value(x).view(batch, length, 3, self.heads, dims // self.heads)
        query, key, value = split.permute(2, 0, 3, 1, 4)  # [B, heads, L, d / heads] each
        mixed = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        gathered: Tensor = self.gather(mixed.transpose(1, 2).reshape(batch, length, dims))
        return gathered


class Attention(nn.Module):
    """Kang and McAuley, Self-Attentive Sequential Recommendation, ICDM 2018, on ids alone, with item biases."""

    def __init__(self, items: int, config: AttentionConfig) -> None:
        super().__init__()
        self.item = nn.Embedding(items, config.dims)
        self.place = nn.Embedding(config.window, config.dims)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.blocks))
        self.norm = nn.LayerNorm(config.dims)
        nn.init.normal_(self.item.weight, std=config.dims**-0.5)
        nn.init.normal_(self.place.weight, std=0.02)

    def forward(self, items: Tensor) -> Tensor:
        """Items [B, L] int64 → user vectors [B, L, d] after each."""
        x = self.item(items) + self.place.weight[: items.shape[1]]  # [B, L, d]
        for block in self.blocks:
            x = block(x)
        user: Tensor = self.norm(x)
        return user


@dataclass
class SequenceSeed:
    """Trains an `Attention` on a log's windows."""

    seed: int = 0
    config: AttentionConfig = field(default_factory=AttentionConfig)
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
        self._model = Attention(len(self._known), self.config)
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
