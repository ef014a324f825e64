"""The attention seed: causal self-attention on ids. Its cost grows with the history, so it teaches and never serves."""

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
    """An `Attention` of `layers` blocks, trained to tell the very next item.

    Tuned on the validation split of a few ten thousand short histories; a larger log wants fewer epochs and less
    dropout, softmax blocks a dropout of 0.3.
    """

    window: int = 50
    epochs: int = 30
    events_per_step: int = 1024
    negatives: int = 1024
    mean_target_gap: float = 1.0
    learning_rate: float = 2e-3
    kind: Literal["sasrec", "hstu"] = "hstu"
    """Blocks of softmax attention, or of pointwise attention with a gate."""
    layers: int = 2
    heads: int = 2
    dropout: float = 0.5

    def network(self, items: int) -> IdNetwork:
        """A new network that knows this many items."""
        return Attention(items, self)


@dataclass
class AttentionSeedModel(SequenceSeedModel):
    """A `SequenceSeedModel` that trains an `Attention`."""

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
        """Items [B, L] int64, L ≤ window → user vectors [B, L, d] after each."""
        x = self.dropout(self.item(items) + self.position.weight[: items.shape[1]])  # [B, L, d]
        user: Tensor = self.norm(self.blocks(x))
        return user


class SoftmaxBlock(nn.Module):
    """Attention that shares out a weight of 1, then a layer for each place alone."""

    def __init__(self, config: AttentionConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.norm = nn.LayerNorm(config.dims)
        self.project = nn.Linear(config.dims, 3 * config.dims)
        self.out = nn.Linear(config.dims, config.dims)
        self.alone = nn.Sequential(
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
        query, key, value = _split(self.project(self.norm(x)), self.heads, 3)  # [B, heads, L, d / heads] each
        taken = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        x = x + self.dropout(self.out(_joined(taken)))
        return x + torch.as_tensor(self.alone(x))


class PointwiseBlock(nn.Module):
    """Attention that weighs each place by itself, so that how much there was of something is not lost, and a gate.

    Zhai et al., Actions Speak Louder than Words: Trillion-Parameter Sequential Transducers for Generative
    Recommendations, ICML 2024 (HSTU), without its biases by time.
    """

    def __init__(self, config: AttentionConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.norm = nn.LayerNorm(config.dims)
        self.project = nn.Linear(config.dims, 4 * config.dims)
        self.bias = nn.Parameter(torch.zeros(config.heads, config.window))  # by how far back
        self.taken_norm = nn.LayerNorm(config.dims)
        self.out = nn.Linear(config.dims, config.dims)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor) -> Tensor:
        """[B, L, d] → [B, L, d]."""
        gate, query, key, value = _split(F.silu(self.project(self.norm(x))), self.heads, 4)
        place = torch.arange(x.shape[1])
        back = place[:, None] - place  # [L, L]
        weight = F.silu(query @ key.transpose(-1, -2) + self.bias[:, back.clamp(min=0)])  # [B, heads, L, L]
        taken = (weight * (back >= 0) / (place[:, None] + 1)) @ value
        gated = self.taken_norm(_joined(taken)) * _joined(gate)
        return x + torch.as_tensor(self.out(self.dropout(gated)))


def _split(x: Tensor, heads: int, parts: int) -> tuple[Tensor, ...]:
    """[B, L, parts · d] → `parts` tensors [B, heads, L, d / heads]."""
    batch, length, width = x.shape
    return x.view(batch, length, parts, heads, width // parts // heads).permute(2, 0, 3, 1, 4).unbind()


def _joined(x: Tensor) -> Tensor:
    """[B, heads, L, d / heads] → [B, L, d]."""
    return x.transpose(1, 2).flatten(2)
