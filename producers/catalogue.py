"""Publish the catalogue to `items`: an upsert or a tombstone for every item."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from kafka import KafkaProducer

from anabranch.input_files.items import RemovedItem
from anabranch.kafka import topics
from anabranch.kafka.producer import CheckedProducer
from anabranch.messages import Item, encode


def publish(
    items: Iterable[Item | RemovedItem],
    producer: KafkaProducer,
    topic: str,
    progress: Callable[[int], None] = lambda n: None,
) -> int:
    """Publish items with their ids as keys, wait until the broker has acknowledged all, and return their number.

    Raises `kafka.errors.KafkaError` if the broker refuses one.
    """
    published = 0
    with CheckedProducer(producer, progress) as checked:
        for item in items:
            checked.send(topic, topics.key(item.item_id), encode(item) if isinstance(item, Item) else None)
            published += 1
    return published
