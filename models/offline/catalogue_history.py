"""The catalogue as it was while the events of a log happened, as far as topic `items` still has it.

The topic keeps the newest record of each item, and older ones until it is compacted. So the oldest version that is left
of an item counts from the beginning: nothing says what was before.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from anabranch.messages import Item
from anabranch.ranking.inference.item_encoder import item_text
from anabranch.ranking.pipeline.servable import ServableRelease
from anabranch.ranking.retrieval.item_attributes import ItemAttributes
from anabranch.ranking.retrieval.item_index import ItemIndex
from anabranch.ranking.types import Hashes, Mask, Rows, Vectors
from anabranch.ranking.vocabulary import ItemVocabulary


class ItemVersion(NamedTuple):
    """What an item was from a time on."""

    ts: int
    """UTC ms"""
    item_id: str
    item: Item | None
    """None: removed."""


@dataclass(frozen=True)
class CatalogueChanges:
    """n versions of the items that changed, in order of time, as a release serves them."""

    ts: NDArray[np.int64]  # [n] UTC ms; -1 for the oldest version of an item
    row: Rows  # [n]
    vector: Vectors  # [n, d]
    available: Mask  # [n]
    removed: Mask  # [n]
    hashes: Hashes  # [n]
    attributes: ItemAttributes  # of n items

    def apply(self, index: ItemIndex, after_ms: int, until_ms: int) -> None:
        """Apply the versions with `after_ms` < ts ≤ `until_ms` to an index, as rankers do."""
        first, last = np.searchsorted(self.ts, [after_ms, until_ms], side="right")
        newest_first = self.row[first:last][::-1]
        newest = last - 1 - np.unique(newest_first, return_index=True)[1]
        if not len(newest):
            return
        present = newest[~self.removed[newest]]
        index.upsert(
            self.row[present],
            self.vector[present],
            self.available[present],
            self.hashes[present],
            self.attributes.take(present),
        )
        index.remove(self.row[newest[self.removed[newest]]])
        if index.needs_rebuild:
            index.rebuild()


@dataclass(frozen=True)
class CatalogueHistory:
    """The versions of every item of which more than one is known."""

    versions: tuple[ItemVersion, ...] = ()
    """In order of time."""

    @classmethod
    def from_versions(cls, versions: Iterable[ItemVersion]) -> Self:
        """Of all versions, in the order in which they were published, those that changed what is served."""
        by_item: dict[str, list[ItemVersion]] = {}
        for version in versions:
            earlier = by_item.setdefault(version.item_id, [])
            if not earlier or _served(earlier[-1].item) != _served(version.item):
                earlier.append(version)
        changed = [version for of_item in by_item.values() if len(of_item) > 1 for version in of_item]
        return cls(tuple(sorted(changed, key=lambda version: version.ts)))

    @property
    def texts(self) -> list[str]:
        """The text of each version [n]; empty if it was removed."""
        return ["" if version.item is None else item_text(version.item) for version in self.versions]

    def encoded(
        self, live: ServableRelease, item_ids: ItemVocabulary, text_vectors: Vectors
    ) -> CatalogueChanges | None:
        """The versions with the vectors that a release gives them; None if nothing changed.

        `text_vectors` [n, T] are those of the `texts` by the release's text transformer.
        """
        if not self.versions:
            return None
        ids = [version.item_id for version in self.versions]
        oldest = dict(zip(reversed(ids), reversed(range(len(ids))), strict=True))
        ts = np.array([version.ts for version in self.versions], np.int64)
        ts[list(oldest.values())] = -1
        by_time = np.argsort(ts, kind="stable")
        versions = [self.versions[index] for index in by_time.tolist()]
        rows = item_ids.rows(version.item_id for version in versions)
        return CatalogueChanges(
            ts=ts[by_time],
            row=rows,
            vector=live.item.encode([version.item_id for version in versions], text_vectors[by_time]),
            available=np.array([version.item is not None and version.item.available for version in versions]),
            removed=np.array([version.item is None for version in versions]),
            hashes=item_ids.hashes(rows),
            attributes=ItemAttributes.of(version.item for version in versions),
        )


def newest_versions(versions: Iterable[ItemVersion]) -> list[Item]:
    """The catalogue of now: every item that is not removed, in the order of their newest versions."""
    newest: dict[str, Item] = {}
    for version in versions:
        newest.pop(version.item_id, None)
        if version.item is not None:
            newest[version.item_id] = version.item
    return list(newest.values())


def _served(item: Item | None) -> tuple[object, ...] | None:
    """What a ranking without rules depends on, of an item."""
    return None if item is None else (item_text(item), item.available, item.category)
