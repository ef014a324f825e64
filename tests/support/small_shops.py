"""Small data sets of every awkward kind, for property tests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from hypothesis import strategies as st

START = 1_600_000_000_000
MINUTE_MS, DAY_MS = 60_000, 86_400_000
FAR_TIMES = (100_000_000_000, 4_000_000_000_000, 99_000_000_000_000)
"""The years 1973, 2096 and 5107."""
ODD_USERS = ("NULL", "", " u1")
TYPES = ("view", "cart", "purchase", "")


@dataclass(frozen=True)
class SmallShop:
    """What decides the files. The rows are drawn by `random_seed`."""

    random_seed: int
    users: int
    items: int
    events: int
    step_ms: int
    """From an event to the next, 0: all at one time."""
    has_types: bool
    is_in_order: bool
    far_times: bool
    odd_users: bool
    catalogue: str
    """`all`: every item. `half`: some. `other`: ids that join with nothing. `one_text`: all items have one title."""

    def write(self, folder: Path) -> tuple[Path, Path]:
        """Write the files of events and of items."""
        events, items = folder / "events.csv", folder / "items.csv"
        header = ["user_id", "item_id", "ts", *(["type"] if self.has_types else [])]
        events.write_text("".join(f"{','.join(row)}\n" for row in (header, *self._event_rows())))
        items.write_text("".join(f"{item_id},{title}\n" for item_id, title in (("item_id", "title"), *self._items())))
        return events, items

    def _event_rows(self) -> Sequence[Sequence[str]]:
        random = np.random.default_rng(self.random_seed)
        rows = []
        for number in range(self.events):
            place = number if self.is_in_order else random.integers(self.events)
            ts = START + int(place) * self.step_ms
            if self.far_times and random.random() < 0.1:
                ts = int(random.choice(FAR_TIMES))
            user = f"u{random.integers(self.users)}"
            if self.odd_users and random.random() < 0.1:
                user = str(random.choice(ODD_USERS))
            row = [user, f"i{random.integers(self.items)}", str(ts)]
            rows.append([*row, str(random.choice(TYPES))] if self.has_types else row)
        return rows

    def _items(self) -> Sequence[tuple[str, str]]:
        count = (self.items + 1) // 2 if self.catalogue == "half" else self.items
        prefix = "x" if self.catalogue == "other" else "i"
        return [(f"{prefix}{n}", "thing" if self.catalogue == "one_text" else f"thing {n}") for n in range(count)]


SMALL_SHOPS = st.builds(
    SmallShop,
    random_seed=st.integers(0, 2**32 - 1),
    users=st.sampled_from([5, 40, 2, 1]),
    items=st.sampled_from([30, 7, 2, 1]),
    events=st.sampled_from([300, 300, 300, 40, 3, 0]),
    step_ms=st.sampled_from([MINUTE_MS, MINUTE_MS, DAY_MS, 1, 0]),
    has_types=st.booleans(),
    is_in_order=st.booleans(),
    far_times=st.booleans(),
    odd_users=st.sampled_from([False, False, False, True]),
    catalogue=st.sampled_from(["all", "all", "half", "one_text", "other"]),
)
