"""A catalogue of any size on a stand: what the real one lacks is made up of it."""

from __future__ import annotations

import bisect
from collections.abc import Iterable
from contextlib import closing

import numpy as np
from numpy.typing import NDArray

from anabranch import messages, release
from anabranch.harness.bench.fixture import Stand
from anabranch.kafka import clients, topics
from anabranch.kafka.producer import Delivery
from anabranch.messages import ItemVector, encode
from anabranch.progress_bar import bar
from producers.completejourney import Purchases

NOISE = 0.4
"""Length of what is added to a real vector to make another up, against the vector's own."""
CHUNK = 10_000
Vectors = NDArray[np.float32]


class ItemVectors:
    """The vectors of a stand's release: read once the indexer has covered the catalogue, and published as it would."""

    def __init__(self, stand: Stand) -> None:
        self._settings, self._topic = stand.settings, stand.bed.topics.item_vectors
        self.release = release.opened(release.folders(stand.settings.releases_dir)[0]).manifest.id
        found = [messages.item_vectors.decode(one.value) for one in stand.item_vectors() if one.value is not None]
        self.of: dict[str, Vectors] = {
            one.item_id: np.frombuffer(one.vector, np.float32)
            for one in found
            if isinstance(one, ItemVector) and one.release == self.release
        }

    def publish(self, vectors: Iterable[tuple[str, Vectors | None]]) -> None:
        """Vectors by item id, None for one that is gone."""
        with closing(clients.producer(self._settings)) as producer, Delivery(producer) as delivery:
            for item_id, vector in vectors:
                message = None
                if vector is not None:
                    message = encode(ItemVector(item_id=item_id, release=self.release, vector=vector.tobytes()))
                delivery.send(self._topic, topics.vector_key(item_id, self.release), message)

    def fill_up(self, items: int, seed: int = 0) -> None:
        """Make items up until there are so many: each beside a real one, as near as that one's neighbours are."""
        random = np.random.default_rng(seed)
        real = np.stack(list(self.of.values()))
        with bar("Items made up", max(0, items - len(real))) as advance:
            for start in range(len(real), items, CHUNK):
                ids = [f"made-up-{number}" for number in range(start, min(start + CHUNK, items))]
                self.publish(zip(ids, beside(real[random.integers(len(real), size=len(ids))], random), strict=True))
                advance(len(ids))


def beside(vectors: Vectors, random: np.random.Generator) -> Vectors:
    """A vector [n, d] beside each of the vectors [n, d], as long as it."""
    noise = random.normal(size=vectors.shape)
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    mixed = vectors + NOISE * length * noise / np.linalg.norm(noise, axis=1, keepdims=True)
    made: Vectors = (mixed * length / np.linalg.norm(mixed, axis=1, keepdims=True)).astype(np.float32)
    return made


def households_within(purchases: Purchases, items: int, seed: int) -> int:
    """The most households, drawn with the seed, that buy no more than so many different items; at least 1."""
    everyone = len(np.unique(purchases.user))
    counts = range(1, everyone + 1)
    return max(1, bisect.bisect_right(counts, items, key=lambda n: len(purchases.of_households(n, seed).bought())))
