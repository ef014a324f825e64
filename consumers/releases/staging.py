"""Item vectors on their way into an index: decoded in chunks, kept by release until it is known what serves."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
from kafka.consumer.fetcher import ConsumerRecord

from anabranch import messages
from anabranch.kafka import topics
from anabranch.messages import Coverage, ItemVector
from anabranch.metrics import ConsumerMetrics
from anabranch.ranking.vocabulary import ItemIds
from consumers.releases.updates import UnreadableVector, VectorChange
from consumers.runtime import own_messages

Entry = ItemVector | Coverage | None


def by_release(records: Iterable[ConsumerRecord], metrics: ConsumerMetrics) -> dict[str, dict[str, Entry]]:
    """The newest message of every item, by release and item id; None is a tombstone, the item "" the coverage."""
    found: dict[str, dict[str, Entry]] = {}
    for record in records:
        read = own_messages.read(messages.item_vectors, topics.split_vector_key, record, metrics)
        if read is not None:
            (item_id, release), entry = read
            found.setdefault(release, {})[item_id] = entry
    return found


def vector_change(release: str, entries: dict[str, Entry], item_ids: ItemIds) -> VectorChange | None:
    """The entries as arrays; None if there are no items among them. Raises `UnreadableVector` for unequal lengths."""
    vectors = [entry for entry in entries.values() if isinstance(entry, ItemVector)]
    removed = [item_id for item_id, entry in entries.items() if entry is None and item_id]
    if not vectors and not removed:
        return None
    lengths = {len(one.vector) for one in vectors}
    if len(lengths) > 1:
        raise UnreadableVector(f"release {release} has item vectors of {sorted(lengths)} bytes, not one length")
    flat = np.frombuffer(b"".join(one.vector for one in vectors), "<f4").astype(np.float32)
    return VectorChange(
        release=release,
        rows=item_ids.rows(one.item_id for one in vectors),
        vectors=flat.reshape(len(vectors), -1) if vectors else np.empty((0, 0), np.float32),
        available=np.array([one.available for one in vectors], np.bool_),
        removed=item_ids.rows(removed),
    )


class Staging:
    """Changes of releases that do not serve yet."""

    def __init__(self) -> None:
        self._changes: dict[str, list[VectorChange]] = {}

    def add(self, change: VectorChange) -> None:
        """Keep a change until its release is taken or dropped."""
        self._changes.setdefault(change.release, []).append(change)

    def take(self, release: str) -> Iterator[VectorChange]:
        """A release's changes, in order; they are kept no longer."""
        yield from self._changes.pop(release, [])

    def drop(self, release: str) -> None:
        """Forget a release's changes."""
        self._changes.pop(release, None)

    @property
    def releases(self) -> frozenset[str]:
        """Releases with changes kept."""
        return frozenset(self._changes)
