"""Which items' rows a process counts, where several processes share the co-visit table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from anabranch.ranking.vocabulary import stable_hash
from anabranch.settings import Settings


@dataclass(frozen=True)
class Shard:
    """A share of the items, by the hashes of their ids: every item is in one of the `count` shards."""

    number: int = 0
    """From 0 to `count` - 1."""
    count: int = 1

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        """The shard of this process."""
        return cls(settings.neighbours_shard, settings.neighbours_shards)

    def __str__(self) -> str:
        return f"shard {self.number} of {self.count}"

    @property
    def suffix(self) -> str:
        """What the names of things that each shard has for itself end with; empty where there is one shard only."""
        return "" if self.count == 1 else f"-{self.number}"

    def has(self, item_id: str) -> bool:
        """Whether the item is in this shard."""
        return stable_hash(item_id) % self.count == self.number


WHOLE = Shard()
"""All items."""
