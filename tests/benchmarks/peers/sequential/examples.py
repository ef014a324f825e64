"""What a network learns from in one step: sequences one after another, without padding between them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tests.benchmarks.peers.sequential.rows import Numbers, UserSequences

PADDED_LENGTHS = (6, 16)
"""Sequences up to each length are padded together; longer ones too."""

LAST_EVENT = np.array([0, 1])
"""Subtracted from bounds, it leaves out the last event, which nothing follows."""


@dataclass(frozen=True)
class Packing:
    """B sequences of together N positions. Layers that look at one position alone need no padding."""

    length: Tensor  # [B]
    row: Tensor  # [N], 0 to B - 1
    place: Tensor  # [N], from 0 in each sequence

    @classmethod
    def of(cls, length: Numbers) -> Packing:
        """Sequences of these lengths [B], each at least 1."""
        row = np.repeat(np.arange(len(length)), length)
        place = np.arange(len(row)) - np.repeat(np.cumsum(length) - length, length)
        return cls(torch.from_numpy(length), torch.from_numpy(row), torch.from_numpy(place))

    @property
    def last(self) -> Tensor:
        """The last position of each sequence [B]."""
        return self.length.cumsum(0) - 1

    def apply_padded(self, layer: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        """A causal layer [B, L, d] → [B, L, e], applied to positions [N, d] → [N, e]. Padding comes last.

        Short and long sequences are padded apart, because most are short and few are long.
        """
        of_row = torch.bucketize(self.length, torch.tensor(PADDED_LENGTHS))  # [B]
        of_position, parts, positions = of_row[self.row], [], []
        for group in range(len(PADDED_LENGTHS) + 1):
            chosen = (of_position == group).nonzero()[:, 0]  # [n]
            if len(chosen):
                part = Packing.of(self.length[of_row == group].numpy())
                parts.append(part.unpad(layer(part.pad(x[chosen]))))
                positions.append(chosen)
        return torch.cat(parts)[torch.cat(positions).argsort()]

    def pad(self, x: Tensor) -> Tensor:
        """[N, d] → [B, L, d], with zeros after the end of a sequence."""
        padded = x.new_zeros(len(self.length), int(self.length.max()), x.shape[1])
        return padded.index_put((self.row, self.place), x)

    def unpad(self, x: Tensor) -> Tensor:
        """[B, L, d] → [N, d]"""
        return x[self.row, self.place]


@dataclass(frozen=True)
class Examples:
    """N positions, each with the item that follows it."""

    item: Tensor  # [N]
    target: Tensor  # [N]
    packing: Packing

    @classmethod
    def of(cls, sequences: UserSequences, bounds: Numbers) -> Examples:
        """From sequences [W, 2] of at least two items each."""
        rows, packing = _rows(bounds - LAST_EVENT)
        item, target = sequences.item[rows], sequences.item[rows + 1]
        return cls(torch.from_numpy(item), torch.from_numpy(target), packing)

    def with_first_items(self, first: Numbers, start: int) -> Examples:
        """Also with the first items [F] of sequences, each after nothing but the number `start`."""
        length = np.concatenate([self.packing.length.numpy(), np.ones(len(first), np.int64)])
        return Examples(
            torch.cat([self.item, torch.full((len(first),), start)]),
            torch.cat([self.target, torch.from_numpy(first)]),
            Packing.of(length),
        )


def packed(sequences: UserSequences, bounds: Numbers) -> tuple[Tensor, Packing]:
    """Items [N] of the sequences within bounds [B, 2], none of them empty."""
    rows, packing = _rows(bounds)
    return torch.from_numpy(sequences.item[rows]), packing


def windows(sequences: UserSequences, length: int, all_events: bool) -> Numbers:
    """Bounds [W, 2] of what is learned from: the newest `length` + 1 events of each user.

    With `all_events`, users of 2 · `length` events and more have windows of `length` events instead, the last first.
    """
    bounds = sequences.newest(length + 1)
    if not all_events:
        return bounds
    is_long = np.diff(sequences.start) >= 2 * length
    more = [
        (begin, begin + length)
        for first, end in sequences.bounds[is_long].tolist()
        for begin in range(end - length, first - 1, -length)
    ]
    return np.concatenate([bounds[~is_long], np.array(more, np.int64).reshape(-1, 2)])


def _rows(bounds: Numbers) -> tuple[Numbers, Packing]:
    packing = Packing.of(bounds[:, 1] - bounds[:, 0])
    return bounds[:, 0][packing.row.numpy()] + packing.place.numpy(), packing
