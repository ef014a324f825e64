from __future__ import annotations

import pytest

from anabranch.messages import Neighbours, RankedItem
from models.co_visit.drift import TOP, kept_share


def row(item_id: str, neighbours: list[str], popularity: float = 0.1) -> Neighbours:
    ranked = [RankedItem(neighbour, 0.1) for neighbour in neighbours]
    return Neighbours(item_id=item_id, neighbours=ranked, popularity=popularity, first_seen=0, ts=0)


def table(**neighbours: list[str]) -> dict[str, Neighbours]:
    return {item_id: row(item_id, names) for item_id, names in neighbours.items()}


def test_the_same_neighbours_in_another_order_are_all_kept() -> None:
    assert kept_share(table(a=["b", "c"]), [row("a", ["c", "b"])]) == 1.0


def test_popular_items_count_for_more() -> None:
    published = table(a=["b"], c=["d"])
    assert kept_share(published, [row("a", ["b"], 0.3), row("c", ["x"], 0.1)]) == pytest.approx(0.75)


def test_only_the_strongest_neighbours_are_compared() -> None:
    names = [f"n{n}" for n in range(2 * TOP)]
    assert kept_share(table(a=names), [row("a", names[TOP:] + names[:TOP])]) == 0.0


def test_items_without_neighbours_before_say_nothing() -> None:
    assert kept_share(table(a=[]), [row("a", ["b"]), row("new", ["b"])]) is None
    assert kept_share({}, []) is None


def test_an_item_that_lost_its_neighbours_kept_none() -> None:
    assert kept_share(table(a=["b"]), [row("a", [])]) == 0.0
