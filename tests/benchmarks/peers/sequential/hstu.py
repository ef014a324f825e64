"""HSTU.

Zhai et al., Actions Speak Louder than Words: Trillion-Parameter Sequential Transducers for Generative Recommendations,
ICML 2024.

Settings, from section 4.1.1 of the paper and the configuration of its set that is most like ours, Amazon Books
(`configs/amzn-books/hstu-sampled-softmax-n512-final.gin` of the authors' repository): 64 dimensions, 4 blocks, 4 heads
of 16, dropout 0.5, the newest 50 items, 128 sequences a step, AdamW at 0.001 without weight decay, 512 uniform
negatives for each target, temperature 0.05, at most 201 epochs. The authors do not stop early; here, 10 epochs of
patience on validation NDCG@10. The benchmarks have no time stamps, so the relative attention bias is that of positions
alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.benchmarks.peers.sequential.examples import Packing
from tests.benchmarks.peers.sequential.network import PeerNetwork, PeerTraining, join_heads, split_heads

TRAINING = PeerTraining(metric="ndcg", max_epochs=201, betas=(0.9, 0.98))
EPSILON = 1e-6
"""Of norms, as in the authors' code."""


@dataclass(frozen=True)
class HstuConfig:
    """Size of the network and its loss."""

    dims: int = 64
    blocks: int = 4
    heads: int = 4
    dropout: float = 0.5
    negatives: int = 512
    temperature: float = 0.05
    positions: int = 61
    """The newest 50 items, and the places that the authors' code keeps for outputs; attention is divided by it."""


class Hstu(PeerNetwork):
    """User and item vectors have length 1."""

    def __init__(self, items: int, config: HstuConfig) -> None:
        super().__init__()
        self.config = config
        self.item = nn.Embedding(items, config.dims)
        self.position = nn.Embedding(config.positions, config.dims)
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(HstuBlock(config) for _ in range(config.blocks))
        nn.init.trunc_normal_(self.item.weight, std=0.02, a=-0.04, b=0.04)
        nn.init.xavier_normal_(self.position.weight)

    def forward(self, item: Tensor, packing: Packing) -> Tensor:
        """See `PeerNetwork`."""
        scale = self.config.dims**0.5
        x = self.dropout(self.item(item) * scale + self.position(packing.place))  # [N, d]
        for block in self.blocks:
            x = block(x, packing)
        return F.normalize(x, dim=-1, eps=EPSILON)

    def loss(self, user: Tensor, target: Tensor) -> Tensor:
        """See `PeerNetwork`. A softmax over the target and negatives of its own; a negative equal to it does not count.

        The scores of all items are computed, because that takes less time than to gather the vectors of N · negatives.
        """
        scores = self.scores(user) / self.config.temperature  # [N, C]
        negative = torch.randint(scores.shape[1], (len(target), self.config.negatives))
        sampled = scores.gather(1, torch.cat([target[:, None], negative], dim=1))  # [N, 1 + negatives]
        collides = F.pad(negative == target[:, None], (1, 0))
        return F.cross_entropy(sampled.masked_fill(collides, -torch.inf), torch.zeros_like(target))

    def scores(self, user: Tensor) -> Tensor:
        """See `PeerNetwork`."""
        return user @ F.normalize(self.item.weight, dim=-1, eps=EPSILON).T


class HstuBlock(nn.Module):
    """Pointwise attention with a gate. Its layer norms have no parameters."""

    def __init__(self, config: HstuConfig) -> None:
        super().__init__()
        self.config = config
        self.project = nn.Linear(config.dims, 4 * config.dims, bias=False)
        self.bias = nn.Parameter(torch.empty(config.positions))  # by distance, of all heads
        self.dropout = nn.Dropout(config.dropout)
        self.out = nn.Linear(config.dims, config.dims)
        nn.init.normal_(self.project.weight, std=0.02)
        nn.init.normal_(self.bias, std=0.02)
        nn.init.xavier_uniform_(self.out.weight)

    def forward(self, x: Tensor, packing: Packing) -> Tensor:
        """[N, d] → [N, d]"""
        projected, dims = F.silu(self.project(_norm(x))), self.config.dims  # [N, 4 · d]
        gate, attended = projected[:, :dims], packing.apply_padded(self._attend, projected[:, dims:])
        return x + torch.as_tensor(self.out(self.dropout(gate * _norm(attended))))

    def _attend(self, inputs: Tensor) -> Tensor:
        """[B, L, 3 · d] → [B, L, d]"""
        value, query, key = split_heads(inputs, self.config.heads)  # [B, heads, L, d / heads] each
        position = torch.arange(query.shape[2])
        distance = position[:, None] - position  # [L, L], below 0 in the future
        weight = F.silu(query @ key.transpose(-1, -2) + self.bias[distance.clamp(min=0)])  # [B, heads, L, L]
        attended = (weight * (distance >= 0) / self.config.positions) @ value  # [B, heads, L, d / heads]
        return join_heads(attended)


def _norm(x: Tensor) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], eps=EPSILON)
