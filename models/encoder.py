"""The shared encoder: item vectors tied with the input of a linear recurrent unit that makes user vectors.

Trained over whole windows at once (`forward`, a scan over time); served one event at a time (`step`, O(1)).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

SECONDS_AN_HOUR = 3600.0


@dataclass(frozen=True)
class EncoderConfig:
    """Sizes of the encoder; `items` counts the learned residuals, number 0 (unknown) among them."""

    items: int
    text_dims: int = 384  # T
    white_dims: int = 128  # P, leading directions of the text vectors that are kept
    dims: int = 64  # d
    state_dims: int = 128  # S
    event_types: int = 4
    shortest_memory: float = 2.0  # events
    longest_memory: float = 512.0  # events


class ItemEncoder(nn.Module):
    """Text vector and learned residual → item vector of length 1."""

    text_mean: Tensor
    whitening: Tensor

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.register_buffer("text_mean", torch.zeros(config.text_dims))
        self.register_buffer("whitening", torch.zeros(config.text_dims, config.white_dims))
        self.project = nn.Linear(config.white_dims, config.dims, bias=False)
        self.residual = nn.Embedding(config.items, config.dims)
        nn.init.eye_(self.project.weight)  # at first the item vectors are the texts' leading directions
        nn.init.normal_(self.residual.weight, std=0.1 / config.dims**0.5)
        nn.init.zeros_(self.residual.weight[0])

    def set_whitening(self, mean: Tensor, whitening: Tensor) -> None:
        """Fix the text side: mean [T] and whitening [T, P], see `models.text.whitening`."""
        self.text_mean.copy_(mean)
        self.whitening.copy_(whitening)

    def white(self, text_vector: Tensor) -> Tensor:
        """Text vectors [..., T] → [..., P], constant while training."""
        return (text_vector - self.text_mean) @ self.whitening

    def embed(self, white: Tensor, item_number: Tensor) -> Tensor:
        """Whitened text [..., P] and numbers [...] → item vectors [..., d]."""
        known = (item_number > 0).unsqueeze(-1)  # [..., 1]
        residual = self.residual(item_number) * known  # [..., d]
        return F.normalize(self.project(white) + residual, dim=-1)

    def forward(self, text_vector: Tensor, item_number: Tensor) -> Tensor:
        """Text vectors [B, T] and numbers [B] int64 → item vectors [B, d]."""
        return self.embed(self.white(text_vector), item_number)


class StepEncoder(nn.Module):
    """A real diagonal linear recurrent unit whose memory fades with every event and with the hours between them.

    Orvieto et al., Resurrecting Recurrent Neural Networks for Long Sequences, ICML 2023 (the unit, its stable
    exponential form and input normalisation); Yue et al., Linear Recurrent Units for Sequential
    Recommendation, WSDM 2024 (the unit in a recommender).
    """

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.config = config
        self.type_vector = nn.Embedding(config.event_types, config.dims)
        self.gap = nn.Linear(1, config.dims)
        self.write = nn.Linear(config.dims, config.state_dims)
        self.gate = nn.Linear(config.dims, config.state_dims)
        self.read = nn.Linear(config.state_dims, config.state_dims)
        self.recent = nn.Linear(config.dims, config.state_dims, bias=False)
        self.out = nn.Linear(config.state_dims, config.dims)
        self.skip = nn.Linear(config.state_dims, config.dims, bias=False)
        self.log_fade = nn.Parameter(_log_fades(config))
        self.log_fade_hours = nn.Parameter(_log_fades(config) - 2.0)
        nn.init.normal_(self.type_vector.weight, std=0.02)

    def forward(self, input_vector: Tensor, event_type: Tensor, seconds_since: Tensor) -> Tensor:
        """Windows of events: [B, L, d], [B, L] int64, [B, L] → user vectors [B, L, d] after each event."""
        fade, write = self._fade_and_write(input_vector, event_type, seconds_since)
        state = scan(fade, write)  # [B, L, S]
        return self._user_vector(state, input_vector)

    def step(
        self, state: Tensor, input_vector: Tensor, event_type: Tensor, seconds_since: Tensor
    ) -> tuple[Tensor, Tensor]:
        """One event: state [B, S], [B, d], [B] int64, [B] → next state [B, S], user vector [B, d]."""
        fade, write = self._fade_and_write(input_vector, event_type, seconds_since)
        state = fade * state + write  # [B, S]
        return state, self._user_vector(state, input_vector)

    def _fade_and_write(self, input_vector: Tensor, event_type: Tensor, seconds_since: Tensor) -> tuple[Tensor, Tensor]:
        hours = torch.log1p(seconds_since / SECONDS_AN_HOUR).unsqueeze(-1)  # [..., 1], log
        by_event = self.log_fade.exp()  # [S]
        fade = torch.exp(-by_event - self.log_fade_hours.exp() * hours)  # [..., S]
        normal = torch.sqrt(1 - torch.exp(-2 * by_event))  # [S], keeps every memory's state at one scale
        x = input_vector + self.type_vector(event_type) + self.gap(hours)  # [..., d]
        return fade, normal * self.write(x) * torch.sigmoid(self.gate(x))

    def _user_vector(self, state: Tensor, input_vector: Tensor) -> Tensor:
        hidden = F.gelu(self.read(state) + self.recent(input_vector))  # [..., S]
        user_vector: Tensor = self.out(hidden) + self.skip(state)  # [..., d]
        return user_vector


class Encoder(nn.Module):
    """Both halves; the score of an item for a user is their inner product."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.config = config
        self.item = ItemEncoder(config)
        self.step = StepEncoder(config)


def scan(fade: Tensor, write: Tensor) -> Tensor:
    """All states of h[t] = fade[t] * h[t-1] + write[t], h[-1] = 0, over dim 1 of [B, L, S], in log2(L) sweeps.

    Hillis and Steele, Data parallel algorithms, CACM 1986.
    """
    reach = 1
    while reach < write.shape[1]:
        behind = F.pad(write, (0, 0, reach, 0))[:, :-reach]  # [B, L, S], what stands `reach` events earlier
        write = write + fade * behind
        fade = fade * F.pad(fade, (0, 0, reach, 0))[:, :-reach]
        reach *= 2
    return write


def _log_fades(config: EncoderConfig) -> Tensor:
    """Log of fade rates [S] per event, memories spread evenly in log from the shortest to the longest."""
    shortest, longest = torch.tensor([config.shortest_memory, config.longest_memory]).log()
    return -torch.linspace(float(shortest), float(longest), config.state_dims)
