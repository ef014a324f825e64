"""The attention seed model: causal self-attention on item ids.

Its cost grows with the length of the history, so it is a seed model and is not served itself.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.seeds.network import IdNetwork, NetworkConfig
from models.seeds.sequence import SequenceSeedModel


@dataclass(frozen=True)
class AttentionConfig(NetworkConfig):
    """An `Attention` network of `layers` blocks, trained to predict the next item.

    Tuned on the validation split of tens of thousands of short histories. A larger log needs fewer epochs and less
    dropout; softmax blocks need a dropout of 0.3.
    """

    window: int = 50
    epochs: int = 30
    events_per_step: int = 1024
    negatives: int = 1024
    mean_target_gap: float = 1.0
    learning_rate: float = 2e-3
    kind: Literal["sasrec", "hstu"] = "hstu"
    """Softmax attention blocks (SASRec), or pointwise attention blocks with a gate (HSTU)."""
    layers: int = 2
    heads: int = 2
    dropout: float = 0.5

    def network(self, items: int) -> IdNetwork:
        """See `NetworkConfig`."""
        return Attention(items, self)


@dataclass
class AttentionSeedModel(SequenceSeedModel):
    """A `SequenceSeedModel` with an `Attention` network."""

    config: NetworkConfig = field(default_factory=AttentionConfig)
    name: str = "attention"


class Attention(IdNetwork):
    """Kang and McAuley, Self-Attentive Sequential Recommendation, ICDM 2018, with a softmax over many negatives.

    Klenitskiy and Vasilev, Turning Dross Into Gold Loss: is BERT4Rec really better than SASRec?, RecSys 2023.
    """

    def __init__(self, items: int, config: AttentionConfig) -> None:
        super().__init__()
        self.item = nn.Embedding(items, config.dims)
        self.position = nn.Embedding(config.window, config.dims)
        block = {"sasrec": SoftmaxBlock, "hstu": PointwiseBlock}[config.kind]
        self.blocks = nn.Sequential(*(block(config) for _ in range(config.layers)))
        self.dropout = nn.Dropout(config.dropout)
        self.norm = nn.LayerNorm(config.dims)
        for table in (self.item, self.position):
            nn.init.normal_(table.weight, std=0.02)

    def forward(self, items: Tensor) -> Tensor:
        """See `IdNetwork`; L ≤ window."""
        x = self.dropout(self.item(items) + self.position.weight[: items.shape[1]])  # [B, L, d]
        user: Tensor = self.norm(self.blocks(x))
        return user


class SoftmaxBlock(nn.Module):
    """Softmax attention, then a position-wise feed-forward layer."""

    def __init__(self, config: AttentionConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.norm = nn.LayerNorm(config.dims)
        self.project = nn.Linear(config.dims, 3 * config.dims)
        self.out = nn.Linear(config.dims, config.dims)
        self.feed_forward = nn.Sequential(
            nn.LayerNorm(config.dims),
            nn.Linear(config.dims, config.dims),
            nn.GELU(),
            nn.Dropout(config.dropout),
            nn.Linear(config.dims, config.dims),
            nn.Dropout(config.dropout),
        )
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor) -> Tensor:
        """[B, L, d] → [B, L, d]."""
        query, key, value = _split_heads(self.project(self.norm(x)), self.heads, 3)  # [B, heads, L, d / heads] each
        attended = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        x = x + self.dropout(self.out(_join_heads(attended)))
        return x + torch.as_tensor(self.feed_forward(x))


class PointwiseBlock(nn.Module):
    """Pointwise attention with a gate. Weights are not normalised over positions, so they preserve intensity.

    Zhai et al., Actions Speak Louder than Words: Trillion-Parameter Sequential Transducers for Generative
    Recommendations, ICML 2024 (HSTU), without its temporal bias.
    """

    def __init__(self, config: AttentionConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.norm = nn.LayerNorm(config.dims)
        self.project = nn.Linear(config.dims, 4 * config.dims)
        self.bias = nn.Parameter(torch.zeros(config.heads, config.window))  # by relative position
        self.attended_norm = nn.LayerNorm(config.dims)
        self.out = nn.Linear(config.dims, config.dims)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor) -> Tensor:
        """[B, L, d] → [B, L, d]."""
        gate, query, key, value = _split_heads(F.silu(self.project(self.norm(x))), self.heads, 4)
        position = torch.arange(x.shape[1])
        distance = position[:, None] - position  # [L, L], below 0 in the future
        weight = F.silu(query @ key.transpose(-1, -2) + self.bias[:, distance.clamp(min=0)])  # [B, heads, L, L]
        attended = (weight * (distance >= 0) / (position[:, None] + 1)) @ value
        gated = self.attended_norm(_join_heads(attended)) * _join_heads(gate)
        return x + torch.as_tensor(self.out(self.dropout(gated)))


def _split_heads(x: Tensor, heads: int, parts: int) -> tuple[Tensor, ...]:
    """[B, L, parts · d] → `parts` tensors [B, heads, L, d / heads]."""
    batch, length, width = x.shape
    return x.view(batch, length, parts, heads, width // parts // heads).permute(2, 0, 3, 1, 4).unbind()


def _join_heads(x: Tensor) -> Tensor:
    """[B, heads, L, d / heads] → [B, L, d]."""
    return x.transpose(1, 2).flatten(2)
