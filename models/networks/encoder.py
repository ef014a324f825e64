"""The shared encoder: item vectors tied with the input of a linear recurrent unit that makes user vectors.

Trained over whole windows at once (`forward`, a scan over time); served one event at a time (`step`, O(1)).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.networks.film import DomainFilm
from models.networks.stored_names import store_weights_as

SECONDS_AN_HOUR = 3600.0
TINY = 1e-6
RESIDUALS = "item.residual.weight"
FILM = "item.film."
STORED_NAMES = {
    "decay_gate": "fade",
    "input_term": "write",
    "linear_skip": "straight",
    "log_hourly_decay": "log_fade_hours",
}


@dataclass(frozen=True)
class EncoderConfig:
    """Sizes of the encoder; `items` counts the learned residuals, number 0 (unknown) among them."""

    items: int
    text_dims: int = 384  # T
    white_dims: int = 128  # P, leading directions of the text vectors that are kept
    dims: int = 64  # d
    state_dims: int = 128  # S
    event_types: int = 4
    shortest_memory: float = 1.0  # events
    longest_memory: float = 256.0  # events
    temperature: float = 0.08
    """At the start: user vectors have length 1 / temperature, which is learned."""
    dropout: float = 0.2
    """While training, of the input and of what is read from memory."""


class ItemTower(nn.Module):
    """Text vector and learned residual → item vector of length 1."""

    text_mean: Tensor
    whitening: Tensor

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.register_buffer("text_mean", torch.zeros(config.text_dims))
        self.register_buffer("whitening", torch.zeros(config.text_dims, config.white_dims))
        self.project = nn.Linear(config.white_dims, config.dims, bias=False)
        self.residual = nn.Embedding(config.items, config.dims)
        self.residual_dropout = 0.0
        """Share of the residuals that are left out while training."""
        self.film: DomainFilm | None = None
        """Where a strategy sets one: `models.sharing.strategies.adapters`."""
        nn.init.eye_(self.project.weight)  # at first the item vectors are the texts' leading directions
        nn.init.normal_(self.residual.weight, std=config.dims**-0.5)
        nn.init.zeros_(self.residual.weight[0])

    def white(self, text_vector: Tensor) -> Tensor:
        """Text vectors [..., T] → [..., P], constant while training."""
        return (text_vector - self.text_mean) @ self.whitening

    def embed(self, white: Tensor, item_number: Tensor) -> Tensor:
        """Whitened text [..., P] and numbers [...] → item vectors [..., d]."""
        known = item_number > 0  # [...]
        if self.training and self.residual_dropout:
            known = known & (torch.rand(known.shape) >= self.residual_dropout)
        item = self.project(white) + self.residual(item_number) * known.unsqueeze(-1)  # [..., d]
        if self.film is not None:
            item = self.film(item, item_number * known)
        return F.normalize(item, dim=-1)

    def forward(self, text_vector: Tensor, item_number: Tensor) -> Tensor:
        """Text vectors [B, T] and numbers [B] int64 → item vectors [B, d]."""
        return self.embed(self.white(text_vector), item_number)


class LinearRecurrentUnit(nn.Module):
    """A gated, real, diagonal linear recurrent unit, and one light block on top of it.

    Orvieto et al., Resurrecting Recurrent Neural Networks for Long Sequences, ICML 2023 (the unit, its stable
    exponential form and input normalisation); De et al., Griffin, 2024 (fading that depends on the input); Yue et
    al., Linear Recurrent Units for Sequential Recommendation, WSDM 2024 (the unit in a recommender). Memory fades
    with every event, and with the hours between events.
    """

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.config = config
        d, s = config.dims, config.state_dims
        self.type_vector = nn.Embedding(config.event_types, d)
        self.gap = nn.Linear(1, d)
        self.input_term = nn.Linear(d, s)
        self.gate = nn.Linear(d, s)
        self.decay_gate = nn.Linear(d, s)
        self.read = nn.Linear(s, s)
        self.recent = nn.Linear(d, s, bias=False)
        self.out = nn.Linear(s, d)
        self.skip = nn.Linear(s, d, bias=False)
        self.linear_skip = nn.Linear(d, d, bias=False)
        self.log_hourly_decay = nn.Parameter(-torch.linspace(2.0, 8.0, s))
        self.log_scale = nn.Parameter(torch.tensor(-math.log(config.temperature)))
        self.dropout = nn.Dropout(config.dropout)
        store_weights_as(self, STORED_NAMES)
        nn.init.normal_(self.type_vector.weight, std=0.02)
        nn.init.zeros_(self.gap.weight)
        nn.init.zeros_(self.gap.bias)
        nn.init.zeros_(self.decay_gate.weight)
        with torch.no_grad():
            self.decay_gate.bias.copy_(_inverse_softplus(1 / _memories(config)))

    def forward(self, input_vector: Tensor, event_type: Tensor, seconds_since: Tensor) -> Tensor:
        """Windows of events: [B, L, d], [B, L] int64, [B, L] → user vectors [B, L, d] after each event."""
        x, fade, write = self.fade_and_write(input_vector, event_type, seconds_since)
        return self.user_vector(scan(fade, write), x)

    def step(
        self, state: Tensor, input_vector: Tensor, event_type: Tensor, seconds_since: Tensor
    ) -> tuple[Tensor, Tensor]:
        """One event: state [B, S], [B, d], [B] int64, [B] → next state [B, S], user vector [B, d]."""
        x, fade, write = self.fade_and_write(input_vector, event_type, seconds_since)
        state = fade * state + write  # [B, S]
        return state, self.user_vector(state, x)

    def fade_and_write(
        self, input_vector: Tensor, event_type: Tensor, seconds_since: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """What does not look at the state: [..., d], [...] int64, [...] → the block's input [..., d], fade and write
        [..., S]. The state after an event is fade · state + write."""
        hours = torch.log1p(seconds_since / SECONDS_AN_HOUR).unsqueeze(-1)  # [..., 1], log
        item = self.dropout(input_vector * self.config.dims**0.5)  # entries of about 1
        x = item + self.type_vector(event_type) + self.gap(hours)  # [..., d]
        rate = F.softplus(self.decay_gate(x))  # [..., S], per event
        normal = torch.sqrt(1 - torch.exp(-2 * rate) + TINY)  # keeps every memory's state at one scale
        fade = torch.exp(-rate - self.log_hourly_decay.exp() * hours)
        return x, fade, normal * self.input_term(x) * torch.sigmoid(self.gate(x))

    def user_vector(self, state: Tensor, x: Tensor) -> Tensor:
        """State after an event [..., S] and the block's input at it [..., d] → user vector [..., d]."""
        hidden = F.gelu(self.read(state) + self.recent(x))  # [..., S]
        wish = self.out(self.dropout(hidden)) + self.skip(self.dropout(state)) + self.linear_skip(x)  # [..., d]
        return F.normalize(wish, dim=-1) * self.log_scale.exp()


class SharedEncoder(nn.Module):
    """Both halves; the score of an item for a user is their inner product."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.config = config
        self.item = ItemTower(config)
        self.step = LinearRecurrentUnit(config)

    @torch.no_grad()
    def inherit(self, weights: Mapping[str, Tensor]) -> None:
        """Take over a parent's weights, by name. It may have learned fewer items; those it had not stay as they are.

        Raises RuntimeError, naming the weight, where a shape differs otherwise.
        """
        others = dict(weights)
        film = {name.removeprefix(FILM): others.pop(name) for name in weights if name.startswith(FILM)}
        residuals = others.pop(RESIDUALS)  # [items of the parent, d]
        self.load_state_dict(others, strict=False)
        self.item.residual.weight[: len(residuals)] = residuals
        if film:
            self.item.film = DomainFilm(self.config.items, len(film["scale.weight"]) - 1, self.config.dims)
            self.item.film.inherit(film)


def stored_dims(weights: Mapping[str, Tensor]) -> tuple[int, int]:
    """`dims` and `white_dims` of the encoder whose weights these are."""
    dims, white_dims = weights["item.project.weight"].shape
    return dims, white_dims


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


def _memories(config: EncoderConfig) -> Tensor:
    """Events [S] after which each memory has faded to 1/e, spread evenly in log from the shortest to the longest."""
    return torch.logspace(math.log10(config.shortest_memory), math.log10(config.longest_memory), config.state_dims)


def _inverse_softplus(value: Tensor) -> Tensor:
    return torch.log(torch.expm1(value))
