"""What the rules that hold do to items: columns that ranking reads. `anabranch.ranking.rules` makes them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import numpy as np

from anabranch.ranking.types import Counts, Floats, Mask, Rows


class Pins(NamedTuple):
    """The items that rules pin on one placement, by position; of one position, by rule and in its order.

    Each stands at its position, or at the first one after it that is free.
    """

    item: Rows
    """[m]"""
    position: Counts
    """[m] from 0"""


class ItemEffects(NamedTuple):
    """What rules do to N items on P placements."""

    added: Floats
    """[P, N] to the score"""
    hidden: Mask
    """[P, N]"""


NO_PINS = Pins(np.empty(0, np.int32), np.empty(0, np.int32))
NO_EFFECTS = ItemEffects(np.empty((0, 0), np.float32), np.empty((0, 0), np.bool_))


@dataclass(frozen=True)
class RulesInForce:
    """What the rules of a moment do, by the numbers of the placements."""

    effects: ItemEffects = NO_EFFECTS
    """[P, N], or empty if no rule does anything to a score."""
    pins: Mapping[int, Pins] = field(default_factory=dict)
    """By the number of the placement, where there are any."""
    hidden_everywhere: Mask = field(default_factory=lambda: np.empty(0, np.bool_))
    """[N] items that are hidden on every placement; empty if there are none."""
    hidden_share: float = 0.0
    """Of the servable items, those that are hidden on every placement."""

    proposed: Rows = field(default_factory=lambda: np.empty(0, np.int32))
    """[k] further items that are candidates of every query."""

    @cached_property
    def pinned_items(self) -> Rows:
        """[m] the items that are pinned on any placement"""
        items: Rows = np.unique(np.concatenate([NO_PINS.item, *(pins.item for pins in self.pins.values())]))
        return items

    @cached_property
    def proposed_items(self) -> Rows:
        """[m] the items that are pinned on any placement, and those that are proposed beyond them"""
        return np.union1d(self.pinned_items, self.proposed).astype(np.int32)


NO_RULES = RulesInForce()
