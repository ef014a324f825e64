"""What the release watcher queues for the ranker's main loop, which applies it between two batches, in order.

Item vectors become an `ItemVectorUpdate` of the live release's index; those of a release that is not live yet wait in
`StagedVectors` until its index is built.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from kafka.consumer.fetcher import ConsumerRecord
from numpy.typing import NDArray

from anabranch import messages
from anabranch.errors import AnabranchError
from anabranch.kafka import topics
from anabranch.messages import IndexingComplete, ItemVector
from anabranch.metrics import ConsumerMetrics
from anabranch.ranking.pipeline.servable import ServableRelease
from anabranch.ranking.retrieval.co_visit_row import CoVisitRow
from anabranch.ranking.retrieval.co_visit_table import CoVisitRows
from anabranch.ranking.retrieval.item_attributes import ItemAttributes
from anabranch.ranking.retrieval.item_index import ItemIndex
from anabranch.ranking.rules.rule_book import NumberedRule, RuleBook, numbered
from anabranch.ranking.types import Hashes, Rows, Vectors
from anabranch.ranking.vocabulary import ItemVocabulary
from consumers.runtime.decoding import decode_own

log = logging.getLogger(__name__)

VectorMessage = ItemVector | IndexingComplete | None
"""A message of `item-vectors`; None for a tombstone."""


class InvalidItemVectors(AnabranchError):
    """Item vectors of different lengths: the indexer cannot have written them all, and the right ones are unknown."""


@dataclass(frozen=True)
class SwapRelease:
    """Rank with this release from now on: its encoder, list ranker and index are swapped in one step."""

    live: ServableRelease


@dataclass(frozen=True)
class ItemVectorUpdate:
    """Items of one release that were added, changed or removed."""

    release: str
    rows: Rows  # [n]
    vectors: Vectors  # [n, d]
    available: NDArray[np.bool_]  # [n]
    removed: Rows  # [m]
    hashes: Hashes  # [n] of the item ids
    attributes: ItemAttributes  # of the n items

    def apply(self, index: ItemIndex) -> None:
        """Update the index of the same release. Raises `InvalidItemVectors` if the dimensions differ."""
        if len(self.rows) and self.vectors.shape[1] != index.dims:
            raise InvalidItemVectors(
                f"release {self.release} has {index.dims} dims, but item vectors of {self.vectors.shape[1]}. Only the "
                "indexer should write them"
            )
        index.upsert(self.rows, self.vectors, self.available, self.hashes, self.attributes)
        if len(self.removed):
            index.remove(self.removed)


@dataclass(frozen=True)
class CoVisitUpdate:
    """Rows of the co-visit table that were added, changed or removed."""

    entries: list[CoVisitRow]

    def apply(self, table: CoVisitRows) -> None:
        """Set or remove the rows."""
        for entry in self.entries:
            entry.apply(table)


@dataclass(frozen=True)
class RuleUpdate:
    """A merchandiser's rule that was added, changed or removed."""

    rule_id: str
    rule: NumberedRule | None
    """None: removed."""

    def apply(self, book: RuleBook) -> None:
        """Put or remove the rule."""
        if self.rule is None:
            book.remove(self.rule_id)
        else:
            book.put(self.rule)


Update = SwapRelease | ItemVectorUpdate | CoVisitUpdate | RuleUpdate


def group_by_release(
    records: Iterable[ConsumerRecord], metrics: ConsumerMetrics
) -> dict[str, dict[str, VectorMessage]]:
    """The newest message of each item by release and item id; `IndexingComplete` has the item id ""."""
    by_release: dict[str, dict[str, VectorMessage]] = {}
    for record in records:
        decoded = decode_own(messages.item_vectors, topics.split_vector_key, record, metrics)
        if decoded is not None:
            (item_id, release), message = decoded
            by_release.setdefault(release, {})[item_id] = message
    return by_release


def item_vector_update(
    release: str, messages_by_item: dict[str, VectorMessage], item_ids: ItemVocabulary
) -> ItemVectorUpdate | None:
    """One release's messages as arrays; None if no item is among them.

    Items whose ids collide with others' are left out.
    Raises `InvalidItemVectors` if the vectors have different lengths.
    """
    accepted = {
        item_id: message for item_id, message in messages_by_item.items() if item_id and item_ids.accepts(item_id)
    }
    vectors = [message for message in accepted.values() if isinstance(message, ItemVector)]
    removed = [item_id for item_id, message in accepted.items() if message is None]
    if not vectors and not removed:
        return None
    lengths = {len(message.vector) for message in vectors}
    if len(lengths) > 1:
        raise InvalidItemVectors(f"release {release} has item vectors of {sorted(lengths)} bytes, not of one length")
    flat = np.frombuffer(b"".join(message.vector for message in vectors), "<f4").astype(np.float32)
    rows = item_ids.rows(message.item_id for message in vectors)
    return ItemVectorUpdate(
        release=release,
        rows=rows,
        vectors=flat.reshape(len(vectors), -1) if vectors else np.empty((0, 0), np.float32),
        available=np.array([message.available for message in vectors], np.bool_),
        removed=item_ids.rows(removed),
        hashes=item_ids.hashes(rows),
        attributes=ItemAttributes.of(vectors),
    )


def rule_update(record: ConsumerRecord, item_ids: ItemVocabulary, metrics: ConsumerMetrics) -> RuleUpdate | None:
    """The rule in a record of `rules`; None for one that cannot be decoded."""
    decoded = decode_own(messages.rules, bytes.decode, record, metrics)
    if decoded is None:
        return None
    rule_id, rule = decoded
    if rule is not None and rule.rule_id != rule_id:
        log.warning("skipping a rule: the key must be its rule_id, %r, and is %r", rule.rule_id, rule_id)
        metrics.passed_over.labels(record.topic).inc()
        return None
    return RuleUpdate(rule_id, None if rule is None else numbered(rule, item_ids))


class StagedVectors:
    """Item vectors of releases that are not live yet."""

    def __init__(self) -> None:
        self._updates: dict[str, list[ItemVectorUpdate]] = {}

    def add(self, update: ItemVectorUpdate) -> None:
        """Keep an update until its release is taken or dropped."""
        self._updates.setdefault(update.release, []).append(update)

    def take(self, release: str) -> Iterator[ItemVectorUpdate]:
        """A release's updates in order; removes them."""
        yield from self._updates.pop(release, [])

    def drop(self, release: str) -> None:
        """Discard a release's updates."""
        self._updates.pop(release, None)

    @property
    def releases(self) -> frozenset[str]:
        """Releases with staged updates."""
        return frozenset(self._updates)
