"""Publish the catalogue onto `items`: upserts and deletes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec
from kafka import KafkaProducer
from msgspec import Struct

from anabranch.errors import InvalidRow
from anabranch.kafka import topics
from anabranch.kafka.producer import Delivery
from anabranch.messages import Item, encode
from producers import rows
from producers.rows import Row

YES, NO = frozenset({"true", "1", "yes"}), frozenset({"false", "0", "no"})


class Gone(Struct, frozen=True):
    """An item that is no more: its tombstone."""

    item_id: str


def publish(
    items: Iterable[Item | Gone], producer: KafkaProducer, topic: str, progress: Callable[[int], None] = lambda n: None
) -> int:
    """Publish items, keyed by their ids, and wait until the broker has them all; how many they were."""
    published = 0
    with Delivery(producer, progress) as delivery:
        for item in items:
            delivery.send(topic, topics.key(item.item_id), encode(item) if isinstance(item, Item) else None)
            published += 1
    return published


def read_items(path: Path, delete: bool = False) -> Iterator[Item | Gone]:
    """Items of a file with columns item_id and title; description, brand, category, price, available, domain if there.

    `category` is a list, or text like `GROCERY > SOUP`. A row whose column `deleted` says so is gone; with `delete`
    every row is, and item_id is the only column needed. Raises `InvalidRow`, naming row, field and remedy.
    """
    for number, row in rows.read(path):
        if number == 1:
            rows.require_columns(path, row, ("item_id",) if delete else ("item_id", "title"))
        try:
            yield _gone(row) if delete or _flag(row, "deleted", default=False) else _item(row)
        except (ValueError, msgspec.ValidationError) as error:
            raise InvalidRow(str(path), number, f"{error}; correct the row, or leave it out") from error


def _gone(row: Row) -> Gone:
    item_id = rows.text(row.get("item_id"))
    if item_id is None:
        raise ValueError("item_id is empty")
    return Gone(item_id)


def _item(row: Row) -> Item:
    names = ("item_id", "title", "description", "brand", "domain")
    fields: dict[str, Any] = {name: found for name in names if (found := rows.text(row.get(name))) is not None}
    fields["category"] = _category(row.get("category"))
    fields["available"] = _flag(row, "available", default=True)
    if rows.text(row.get("price")) is not None:
        fields["price"] = _price(row["price"])
    if isinstance(row.get("vectors"), dict):
        fields["vectors"] = row["vectors"]
    return msgspec.convert(fields, Item)


def _category(value: Any) -> list[str]:
    levels = value if isinstance(value, list) else (rows.text(value) or "").split(">")
    return [level.strip() for level in map(str, levels) if level.strip()]


def _price(value: Any) -> float:
    try:
        return float(value)
    except ValueError as error:
        raise ValueError(f"price {value!r} is no number") from error


def _flag(row: Row, name: str, default: bool) -> bool:
    written = rows.text(row.get(name))
    if written is None:
        return default
    if written.lower() in YES | NO:
        return written.lower() in YES
    raise ValueError(f"{name} {written!r} is neither true nor false")
