"""What a shop calls things in the events that it sends."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from anabranch.own_event_types import NO_OWN_TYPES, OwnEventTypes
from anabranch.settings import Settings


@dataclass(frozen=True)
class ShopNames:
    """Names that a shop chooses."""

    item_keys: Sequence[str]
    """Fields of a foreign product that may be its item's id, the first first."""
    event_types: OwnEventTypes = NO_OWN_TYPES

    @classmethod
    def from_settings(cls, settings: Settings) -> ShopNames:
        """Those of the settings."""
        return cls(settings.collect_item_key.split(","), OwnEventTypes(settings.event_types))
