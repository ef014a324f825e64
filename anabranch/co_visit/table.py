"""The co-visit table: each item's strongest neighbours, as the `neighbours` topic carries them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from anabranch.messages import Neighbours, RankedItem


class CoVisitTable(NamedTuple):
    """Rows of n items."""

    item: NDArray[np.int32]  # [n]
    neighbours: NDArray[np.int32]  # [n, width], strongest first, padded with -1
    share: NDArray[np.float32]  # [n, width], share of the item's co-visits, 0 to 1
    popularity: NDArray[np.float32]  # [n], the item's share of all decayed visits
    first_seen: NDArray[np.int64]  # [n], UTC milliseconds
    repeat_rate: NDArray[np.float32]  # [n], share of the item's users who returned to it in a later session


def neighbour_messages(table: CoVisitTable, item_ids: Sequence[str], ts: int) -> Iterator[Neighbours]:
    """One message per row of the table."""
    for index, item in enumerate(table.item.tolist()):
        neighbours = zip(table.neighbours[index].tolist(), table.share[index].tolist(), strict=True)
        yield Neighbours(
            item_id=item_ids[item],
            neighbours=[RankedItem(item_ids[other], float(share)) for other, share in neighbours if other >= 0],
            popularity=float(table.popularity[index]),
            first_seen=int(table.first_seen[index]),
            repeat_rate=float(table.repeat_rate[index]),
            ts=ts,
        )
