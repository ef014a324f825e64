"""Attributes of items: their categories, brands, domains and prices, as arrays."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, Self

import numpy as np

from anabranch.ranking.types import Floats, Hashes, Mask, Positions, Rows
from anabranch.ranking.vocabulary import stable_hash

NO_NAME = 0
"""The hash of the category, brand or domain of an item that has none."""
LEVEL_SEPARATOR = "\x1f"
"""Between the names of a category path."""


class Described(Protocol):
    """An item of the catalogue, or a message about one."""

    @property
    def category(self) -> list[str]:
        """Category path, the broadest name first; empty: none."""

    @property
    def brand(self) -> str | None:
        """None: none."""

    @property
    def domain(self) -> str | None:
        """None: none."""

    @property
    def price(self) -> float | None:
        """None: none."""


@dataclass(frozen=True)
class ItemAttributes:
    """The attributes of n items."""

    categories: Hashes
    """[n] of the items' category paths; `NO_NAME` where an item has none, as below."""
    brands: Hashes
    """[n]"""
    domains: Hashes
    """[n]"""
    prices: Floats
    """[n] NaN where an item has none."""
    category_paths: Mapping[int, tuple[str, ...]]
    """The category paths of these hashes, and perhaps of others."""

    @classmethod
    def of(cls, items: Iterable[Described | None]) -> Self:
        """The attributes of items; None has none."""
        items = list(items)
        paths = [() if item is None else tuple(item.category) for item in items]
        return cls(
            categories=category_hashes(paths),
            brands=name_hashes(None if item is None else item.brand for item in items),
            domains=name_hashes(None if item is None else item.domain for item in items),
            prices=np.array([np.nan if item is None or item.price is None else item.price for item in items], "f4"),
            category_paths={int(category_hashes([path])[0]): path for path in set(paths) - {()}},
        )

    @classmethod
    def none(cls, n: int) -> Self:
        """Those of n items that have none."""
        names = np.zeros(n, np.uint64)
        return cls(names, names, names, np.full(n, np.nan, np.float32), {})

    def take(self, chosen: Positions | Rows | Mask) -> ItemAttributes:
        """Those of some of the items."""
        return ItemAttributes(
            categories=self.categories[chosen],
            brands=self.brands[chosen],
            domains=self.domains[chosen],
            prices=self.prices[chosen],
            category_paths=self.category_paths,
        )


class Conditions(Protocol):
    """What items have to be like; an empty or missing condition holds for all."""

    @property
    def categories(self) -> Sequence[Sequence[str]]:
        """Category paths: of one of them, or below it."""

    @property
    def brands(self) -> Sequence[str]:
        """Of one of these brands."""

    @property
    def domains(self) -> Sequence[str]:
        """Of one of these domains."""

    @property
    def price_from(self) -> float | None:
        """At least this price."""

    @property
    def price_below(self) -> float | None:
        """A lower price than this."""


def with_attributes(conditions: Conditions, attributes: ItemAttributes) -> Mask:
    """[n] which of n items meet all conditions."""
    items = np.ones(len(attributes.prices), np.bool_)
    if conditions.brands:
        items &= np.isin(attributes.brands, name_hashes(conditions.brands))
    if conditions.domains:
        items &= np.isin(attributes.domains, name_hashes(conditions.domains))
    if conditions.categories:
        items &= np.isin(attributes.categories, _categories_below(conditions.categories, attributes.category_paths))
    if conditions.price_from is not None:  # a comparison with NaN, of an item without a price, is False
        items &= attributes.prices >= np.float32(conditions.price_from)
    if conditions.price_below is not None:
        items &= attributes.prices < np.float32(conditions.price_below)
    return items


def _categories_below(wanted: Sequence[Sequence[str]], paths: Mapping[int, tuple[str, ...]]) -> Hashes:
    """Hashes of the categories with these paths, and of those below them."""
    below = [path for path in paths.values() if any(path[: len(start)] == tuple(start) for start in wanted)]
    return category_hashes(below)


def category_hashes(paths: Iterable[Sequence[str]]) -> Hashes:
    """Hashes [n] of category paths, by which items of one category are told; `NO_NAME` for an empty path."""
    return name_hashes(LEVEL_SEPARATOR.join(path) for path in paths)


def name_hashes(names: Iterable[str | None]) -> Hashes:
    """Hashes [n] of names; `NO_NAME` for None and for an empty one."""
    names = list(names)
    by_name = {name: stable_hash(name) if name else NO_NAME for name in set(names)}
    return np.array([by_name[name] for name in names], np.uint64)
