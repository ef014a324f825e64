"""The shared encoder: an item tower, whose vectors are also the input of a linear recurrent unit for user vectors.

Training runs over whole windows in parallel (`forward`, a scan over time); serving runs one event at a time (`step`,
O(1) per event).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from anabranch.event_types import READ_BY_ENCODERS
from models.networks.film import DomainFilm
from models.networks.stored_names import store_weights_as

SECONDS_PER_HOUR = 3600.0
EPSILON = 1e-6
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
    """Sizes of the encoder. `items` counts the learned residuals, including number 0 for items without one."""

    items: int
    text_dims: int = 384  # T
    white_dims: int = 128  # P, leading directions of the text vectors
    dims: int = 64  # d
    state_dims: int = 128  # S
    event_types: int = READ_BY_ENCODERS
    shortest_memory: float = 1.0  # events
    longest_memory: float = 256.0  # events
    temperature: float = 0.08
    """Initial softmax temperature: user vectors have length 1 / temperature, which is learned."""
    dropout: float = 0.2
    """Dropout rate at the input and before the output layers."""
    residual_length: float = 0.1
    """Length at which a residual starts beside a text vector, which has length 1 on average."""


class ItemTower(nn.Module):
    """Text vector and learned residual → item vector of length 1."""

    text_mean: Tensor
    whitening: Tensor

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("text_mean", torch.zeros(config.text_dims))
        self.register_buffer("whitening", torch.zeros(config.text_dims, config.white_dims))
        self.project = nn.Linear(config.white_dims, config.dims, bias=False)
        self.residual = nn.Embedding(config.items, config.dims)
        self.residual_dropout = 0.0
        """Share of the residuals that are left out at each training step."""
        self.film: DomainFilm | None = None
        """Set by `models.sharing.strategies.adapters`."""
        nn.init.eye_(self.project.weight)  # item vectors start as the leading directions of the texts
        nn.init.zeros_(self.residual.weight[0])
        self.draw_residuals()

    @torch.no_grad()
    def draw_residuals(self, first: int = 1) -> None:
        """Give the items from number `first` on, which are untrained, a residual in a random direction.

        Beside a text it is short, so that an item starts at its text. Without whitening there is no text side: the
        residual is the whole item vector, and starts at length 1.
        """
        length = self.config.residual_length if self.whitening.any() else 1.0
        nn.init.normal_(self.residual.weight[first:], std=length * self.config.dims**-0.5)

    def white(self, text_vector: Tensor) -> Tensor:
        """Whiten text vectors [..., T] → [..., P]. It has no trained weights."""
        return (text_vector - self.text_mean) @ self.whitening

    def embed(self, white: Tensor, item_number: Tensor) -> Tensor:
        """Whitened text vectors [..., P] and item numbers [...] → item vectors [..., d]."""
        has_residual = item_number > 0  # [...]
        if self.training and self.residual_dropout:
            has_residual = has_residual & (torch.rand(has_residual.shape) >= self.residual_dropout)
        item = self.project(white) + self.residual(item_number) * has_residual.unsqueeze(-1)  # [..., d]
        if self.film is not None:
            item = self.film(item, item_number * has_residual)
        return F.normalize(item, dim=-1)

    def forward(self, text_vector: Tensor, item_number: Tensor) -> Tensor:
        """Text vectors [B, T] and item numbers [B] int64 → item vectors [B, d]."""
        return self.embed(self.white(text_vector), item_number)


class LinearRecurrentUnit(nn.Module):
    """A gated, real, diagonal linear recurrent unit with one nonlinear output block.

    Orvieto et al., Resurrecting Recurrent Neural Networks for Long Sequences, ICML 2023 (the unit, its stable
    exponential parametrisation and its input normalisation); De et al., Griffin: Mixing Gated Linear Recurrences with
    Local Attention for Efficient Language Models, 2024 (input-dependent decay); Yue et al., Linear Recurrent Units for
    Sequential Recommendation, WSDM 2024. The state decays with every event, and with the hours between events.
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
        """Windows of events: item vectors [B, L, d], event types [B, L] int64 and seconds since the user's previous
        event [B, L] → user vectors [B, L, d] after each event."""
        x, decay, update = self.recurrence_terms(input_vector, event_type, seconds_since)
        return self.user_vector(scan(decay, update), x)

    def step(
        self, state: Tensor, input_vector: Tensor, event_type: Tensor, seconds_since: Tensor
    ) -> tuple[Tensor, Tensor]:
        """One event per user: state [B, S], [B, d], [B] int64, [B] → next state [B, S], user vector [B, d]."""
        x, decay, update = self.recurrence_terms(input_vector, event_type, seconds_since)
        state = decay * state + update  # [B, S]
        return state, self.user_vector(state, x)

    def recurrence_terms(
        self, input_vector: Tensor, event_type: Tensor, seconds_since: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """What does not depend on the state: [..., d], [...] int64, [...] → the output block's input x [..., d], decay
        and update [..., S]. The next state is decay · state + update."""
        log_hours = torch.log1p(seconds_since / SECONDS_PER_HOUR).unsqueeze(-1)  # [..., 1]
        item = self.dropout(input_vector * self.config.dims**0.5)  # scaled to entries of about 1
        x = item + self.type_vector(event_type) + self.gap(log_hours)  # [..., d]
        rate = F.softplus(self.decay_gate(x))  # [..., S], per event
        normalisation = torch.sqrt(1 - torch.exp(-2 * rate) + EPSILON)  # keeps all states at one scale
        decay = torch.exp(-rate - self.log_hourly_decay.exp() * log_hours)
        return x, decay, normalisation * self.input_term(x) * torch.sigmoid(self.gate(x))

    def user_vector(self, state: Tensor, x: Tensor) -> Tensor:
        """State after an event [..., S] and x [..., d] of the event → user vector [..., d]."""
        hidden = F.gelu(self.read(state) + self.recent(x))  # [..., S]
        query = self.out(self.dropout(hidden)) + self.skip(self.dropout(state)) + self.linear_skip(x)  # [..., d]
        return F.normalize(query, dim=-1) * self.log_scale.exp()


class SharedEncoder(nn.Module):
    """Item tower and recurrent unit. The score of an item for a user is the inner product of their vectors."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.config = config
        self.item = ItemTower(config)
        self.step = LinearRecurrentUnit(config)

    @torch.no_grad()
    def inherit(self, weights: Mapping[str, Tensor]) -> None:
        """Copy a parent's weights, by name. Items that the parent has not learned start as in a first release.

        Raises RuntimeError, naming the weight, if a shape differs in any other way.
        """
        others = dict(weights)
        film = {name.removeprefix(FILM): others.pop(name) for name in weights if name.startswith(FILM)}
        residuals = others.pop(RESIDUALS)  # [items of the parent, d]
        self.load_state_dict(others, strict=False)
        self.item.residual.weight[: len(residuals)] = residuals
        self.item.draw_residuals(first=len(residuals))
        if film:
            self.item.film = DomainFilm(self.config.items, len(film["scale.weight"]) - 1, self.config.dims)
            self.item.film.inherit(film)


def stored_dims(weights: Mapping[str, Tensor]) -> tuple[int, int, int]:
    """`text_dims`, `white_dims` and `dims` of the encoder with these weights."""
    text_dims, white_dims = weights["item.whitening"].shape
    return text_dims, white_dims, len(weights["item.project.weight"])


def scan(decay: Tensor, update: Tensor) -> Tensor:
    """All states of h[t] = decay[t] · h[t-1] + update[t], h[-1] = 0, along dim 1 of [B, L, S], in log2(L) passes.

    Hillis and Steele, Data parallel algorithms, CACM 1986.
    """
    offset = 1
    while offset < update.shape[1]:
        earlier = F.pad(update, (0, 0, offset, 0))[:, :-offset]  # [B, L, S], shifted by `offset` events
        update = update + decay * earlier
        decay = decay * F.pad(decay, (0, 0, offset, 0))[:, :-offset]
        offset *= 2
    return update


def _memories(config: EncoderConfig) -> Tensor:
    """Number of events [S] after which each state has decayed to 1/e, log-spaced from the shortest to the longest."""
    return torch.logspace(math.log10(config.shortest_memory), math.log10(config.longest_memory), config.state_dims)


def _inverse_softplus(value: Tensor) -> Tensor:
    return torch.log(torch.expm1(value))
