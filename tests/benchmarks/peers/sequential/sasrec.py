"""SASRec with a softmax over all items.

Kang and McAuley, Self-Attentive Sequential Recommendation, ICDM 2018; trained as in Klenitskiy and Vasilev, Turning
Dross Into Gold Loss: is BERT4Rec really better than SASRec?, RecSys 2023.

Settings: the configuration of the second paper's repository (`src/configs/SASRec.yaml`), which it uses as it is for
sets of short histories: 64 dimensions, 2 blocks, 1 head, the newest 50 items, 128 sequences a step, Adam at 0.001, at
most 100 epochs, 10 epochs of patience on validation NDCG@10. Dropout is 0.5, as the first paper has it for its Amazon
sets; the second has 0.1 for all of its sets.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.benchmarks.peers.sequential.examples import Packing
from tests.benchmarks.peers.sequential.network import (
    PeerNetwork,
    PeerTraining,
    full_cross_entropy,
    join_heads,
    split_heads,
)

TRAINING = PeerTraining(metric="ndcg", max_epochs=100)


@dataclass(frozen=True)
class SasRecConfig:
    """Size of the network."""

    dims: int = 64
    blocks: int = 2
    heads: int = 1
    dropout: float = 0.5
    window: int = 50


class SasRec(PeerNetwork):
    """Its blocks put the layer norm on the queries alone, and the residual connection around the norm's output."""

    def __init__(self, items: int, config: SasRecConfig) -> None:
        super().__init__()
        self.item = nn.Embedding(items, config.dims)
        self.position = nn.Embedding(config.window, config.dims)
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(SasRecBlock(config) for _ in range(config.blocks))
        self.norm = nn.LayerNorm(config.dims, eps=1e-8)
        self.apply(_initialise)

    def forward(self, item: Tensor, packing: Packing) -> Tensor:
        """See `PeerNetwork`."""
        scale = self.item.embedding_dim**0.5
        x = self.dropout(self.item(item) * scale + self.position(packing.place))  # [N, d]
        for block in self.blocks:
            x = block(x, packing)
        return torch.as_tensor(self.norm(x))

    def loss(self, user: Tensor, target: Tensor) -> Tensor:
        """See `PeerNetwork`."""
        return full_cross_entropy(user, target, self.item.weight)

    def scores(self, user: Tensor) -> Tensor:
        """See `PeerNetwork`."""
        return user @ self.item.weight.T


class SasRecBlock(nn.Module):
    """Softmax attention, then a position-wise feed-forward layer."""

    def __init__(self, config: SasRecConfig) -> None:
        super().__init__()
        dims, dropout = config.dims, config.dropout
        self.config = config
        self.query_norm, self.norm = (nn.LayerNorm(dims, eps=1e-8) for _ in range(2))
        self.project = nn.Parameter(torch.empty(3 * dims, dims))  # queries, keys, values
        self.project_bias = nn.Parameter(torch.zeros(3 * dims))
        self.out = nn.Linear(dims, dims)
        self.feed_forward = nn.Sequential(
            nn.Linear(dims, dims), nn.Dropout(dropout), nn.ReLU(), nn.Linear(dims, dims), nn.Dropout(dropout)
        )
        nn.init.xavier_uniform_(self.project)  # as in PyTorch's multi-head attention, which the authors use

    def forward(self, x: Tensor, packing: Packing) -> Tensor:
        """[N, d] → [N, d]"""
        dims, normed = self.config.dims, self.query_norm(x)
        query = F.linear(normed, self.project[:dims], self.project_bias[:dims])
        key_and_value = F.linear(x, self.project[dims:], self.project_bias[dims:])
        attended = packing.apply_padded(self._attend, torch.cat([query, key_and_value], dim=-1))
        x = self.norm(normed + torch.as_tensor(self.out(attended)))
        return x + torch.as_tensor(self.feed_forward(x))

    def _attend(self, inputs: Tensor) -> Tensor:
        """[B, L, 3 · d] → [B, L, d]"""
        query, key, value = split_heads(inputs, self.config.heads)  # [B, heads, L, d / heads] each
        dropout = self.config.dropout if self.training else 0.0
        attended = F.scaled_dot_product_attention(query, key, value, dropout_p=dropout, is_causal=True)
        return join_heads(attended)


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=0.02)
    if isinstance(module, nn.Linear):
        nn.init.zeros_(module.bias)
