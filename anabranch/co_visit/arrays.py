"""Co-visit counts as named arrays without spare room, to save them and to go on from them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anabranch.co_visit.bounded_rows import BoundedRows
from anabranch.co_visit.counts import CoVisitCounts
from anabranch.co_visit.memory import CoVisitMemory, ItemCounts, UserHistories

NO_ORIGIN = -1


def of_counts(counts: CoVisitCounts) -> dict[str, NDArray[Any]]:
    """All that the counts have learned."""
    memory, origin_ms = counts.memory, counts.decay.origin_ms
    return {
        **_named("items", memory.items),
        **_named("users", memory.users),
        **_named("neighbours", _trimmed(memory.neighbours)),
        **_named("visited", _trimmed(memory.visited)),
        "origin_ms": np.array([NO_ORIGIN if origin_ms is None else origin_ms], np.int64),
        "newest_weight": np.array([counts.newest_weight]),
    }


def restore_counts(counts: CoVisitCounts, saved: Mapping[str, NDArray[Any]]) -> None:
    """Give new counts what others had learned; which items have rows is not saved, and has to be chosen again.

    Raises `ValueError` if these kept histories of another length.
    """
    items = ItemCounts(*(saved[f"items.{name}"] for name in ItemCounts._fields))
    users = UserHistories(*(saved[f"users.{name}"] for name in UserHistories._fields))
    if users.items.shape[1] != counts.rule.history:
        raise ValueError(f"it was saved with histories of {users.items.shape[1]} items")
    counts.memory = CoVisitMemory(
        items=items,
        neighbours=BoundedRows(*(saved[f"neighbours.{name}"] for name in BoundedRows._fields)),
        users=users,
        visited=BoundedRows(*(saved[f"visited.{name}"] for name in BoundedRows._fields)),
        has_row=np.ones(len(items.users), np.bool_),
    )
    origin_ms = int(saved["origin_ms"][0])
    counts.decay.origin_ms = None if origin_ms == NO_ORIGIN else origin_ms
    counts.newest_weight = float(saved["newest_weight"][0])


def _named(prefix: str, columns: ItemCounts | UserHistories | BoundedRows) -> dict[str, NDArray[Any]]:
    return {f"{prefix}.{name}": column for name, column in columns._asdict().items()}


def _trimmed(rows: BoundedRows) -> BoundedRows:
    used = int(rows.used[0])
    return rows._replace(keys=rows.keys[:used], counts=rows.counts[:used], bits=rows.bits[:used])
