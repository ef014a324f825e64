"""A catalogue of any size: synthetic items are added to the real ones."""

from __future__ import annotations

import bisect
from collections.abc import Iterable
from contextlib import closing

import numpy as np
from numpy.typing import NDArray

from anabranch import messages, release
from anabranch.harness.bench.fixture import BenchFixture
from anabranch.kafka import clients, topics
from anabranch.kafka.producer import CheckedProducer
from anabranch.messages import ItemVector, encode
from anabranch.progress_bar import bar
from producers.completejourney import Purchases

NOISE = 0.4
"""Length of the noise added to a real vector to make a synthetic one, relative to the vector's length."""
CHUNK = 10_000
Vectors = NDArray[np.float32]


class PublishedItemVectors:
    """The item vectors of the fixture's release: read once the indexer is done, published as the indexer would."""

    def __init__(self, fixture: BenchFixture) -> None:
        self._settings, self._topic = fixture.settings, fixture.testbed.topics.item_vectors
        self.release = release.open_release(release.folders(fixture.settings.releases_dir)[0]).manifest.id
        values = (record.value for record in fixture.item_vector_records() if record.value is not None)
        decoded = [messages.item_vectors.decode(value) for value in values]
        self.by_item: dict[str, Vectors] = {
            message.item_id: np.frombuffer(message.vector, np.float32)
            for message in decoded
            if isinstance(message, ItemVector) and message.release == self.release
        }

    def publish(self, vectors: Iterable[tuple[str, Vectors | None]]) -> None:
        """Publish vectors by item id; None removes an item."""
        with closing(clients.producer(self._settings)) as producer, CheckedProducer(producer) as delivery:
            for item_id, vector in vectors:
                message = None
                if vector is not None:
                    message = encode(ItemVector(item_id=item_id, release=self.release, vector=vector.tobytes()))
                delivery.send(self._topic, topics.vector_key(item_id, self.release), message)

    def fill_up(self, item_count: int, random_seed: int = 0) -> None:
        """Publish synthetic items until there are `item_count`: each near a real one, see `add_noise`."""
        random = np.random.default_rng(random_seed)
        real = np.stack(list(self.by_item.values()))
        with bar("Synthetic items", max(0, item_count - len(real))) as advance:
            for start in range(len(real), item_count, CHUNK):
                ids = [f"made-up-{number}" for number in range(start, min(start + CHUNK, item_count))]
                originals = real[random.integers(len(real), size=len(ids))]
                self.publish(zip(ids, add_noise(originals, random), strict=True))
                advance(len(ids))


def add_noise(vectors: Vectors, random: np.random.Generator) -> Vectors:
    """A vector near each of the vectors [n, d], with the same length."""
    noise = random.normal(size=vectors.shape)
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    mixed = vectors + NOISE * length * noise / np.linalg.norm(noise, axis=1, keepdims=True)
    noisy: Vectors = (mixed * length / np.linalg.norm(mixed, axis=1, keepdims=True)).astype(np.float32)
    return noisy


def max_households(purchases: Purchases, item_count: int, random_seed: int) -> int:
    """The largest number of households, drawn with the seed, that buy at most `item_count` different items; min. 1."""
    counts = range(1, len(np.unique(purchases.user)) + 1)
    return max(
        1,
        bisect.bisect_right(
            counts, item_count, key=lambda count: len(purchases.of_households(count, random_seed).bought())
        ),
    )
