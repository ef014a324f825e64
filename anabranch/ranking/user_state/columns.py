"""The records of users, of fixed size, as arrays by slot."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from anabranch.ranking.types import Rows, Seconds
from anabranch.ranking.user_state.block_pool import NO_BLOCK, Blocks
from anabranch.ranking.user_state.layout import StateLayout

Records = NDArray[Any]
"""[n] of the type that `record_type` returns."""

NOT_ENCODED = -1
"""`encoded_by` of a user without a vector."""


class ActivityColumns(NamedTuple):
    """The columns that compiled functions read and change, by slot: not the vectors, since Numba has no float16."""

    event_count: NDArray[np.int64]
    """[n] events ever appended to the history"""
    last_ts: NDArray[np.int64]
    """[n] UTC ms of the newest event, -1 before the first"""
    session: NDArray[np.uint64]
    """[n] hash of the newest session id, 0 where events name none"""
    session_length: NDArray[np.int32]
    """[n] how many of the newest events of the history belong to the current session"""
    history_block: Blocks
    """[n] first block of the history, NO_BLOCK while it is empty"""
    long_term_block: Blocks
    """[n] first block of the long-term items, NO_BLOCK while there are none"""
    long_term_size: NDArray[np.int32]
    """[n] number of long-term items"""
    slate: Rows
    """[n, placements · slate] the last slate shown at each placement, one after the other, each -1 padded"""
    slate_release: NDArray[np.int32]
    """[n] number of the release that made the slates, -1: none was shown"""
    explored: NDArray[np.uint8]
    """[n] how many of the last places of the first placement's slate were drawn at random"""
    recent_event: NDArray[np.uint64]
    """[n, recent_events] ring of event id hashes; entry `dedupe_count % recent_events` is written next"""
    dedupe_count: NDArray[np.int64]
    """[n] event ids ever remembered"""
    shown_item: Rows
    """[n, impression_items] what the user was shown and has not taken since, -1 where there is none; in no order"""
    shown_count: NDArray[np.uint8]
    """[n, impression_items] how often, since the user last took an interest in it"""
    shown_s: Seconds
    """[n, impression_items] when last, seconds since 1970; 0 where there is none"""
    disliked_item: Rows
    """[n, disliked_items] what the user does not want to see again, the newest last, -1 padded"""


class UserColumns(NamedTuple):
    """All columns, by slot. A new user's are those of `blank_record`; slots that were never used hold zeros."""

    recurrent: NDArray[np.float16]
    """[n, S] recurrent state of the encoder. Half the memory of float32, and predictions are no worse."""
    vector: NDArray[np.float16]
    """[n, d] user vector"""
    encoded_by: NDArray[np.int32]
    """[n] number of the release that made `recurrent` and `vector`, or NOT_ENCODED. If it is not the live one, they
    are encoded again, from the history, at the user's next event."""
    event_count: NDArray[np.int64]
    """For this and the next fifteen, see `ActivityColumns`."""
    last_ts: NDArray[np.int64]
    session: NDArray[np.uint64]
    session_length: NDArray[np.int32]
    history_block: Blocks
    long_term_block: Blocks
    long_term_size: NDArray[np.int32]
    slate: Rows
    slate_release: NDArray[np.int32]
    explored: NDArray[np.uint8]
    recent_event: NDArray[np.uint64]
    dedupe_count: NDArray[np.int64]
    shown_item: Rows
    shown_count: NDArray[np.uint8]
    shown_s: Seconds
    disliked_item: Rows
    user: NDArray[np.int64]
    """[n] hash of the user id; `consumers.ranker.checkpoint` keeps the ids of users whose states are dirty"""
    user_check: NDArray[np.uint16]
    """[n] second hash of the user id, see `UserKeys`"""
    partition: NDArray[np.int32]
    """[n] input partition of the user, -1 for a free slot"""
    next_offset: NDArray[np.int64]
    """[n] the state includes every event of the user before this offset of its partition, and none after"""
    saved_at: NDArray[np.int64]
    """[n] offset of the newest saved state in the changelog, -1: there is none"""
    dirty: NDArray[np.bool_]
    """[n] whether the state has changed since it was saved"""
    last_batch: NDArray[np.int64]
    """[n] number of the newest batch that the user was part of; the smallest is the idlest user's"""


def record_type(layout: StateLayout, dims: int, state_dims: int) -> np.dtype[Any]:
    """A user's record, its fields ordered so that little padding is needed."""
    return np.dtype(
        [
            ("recurrent", "f2", (state_dims,)),
            ("vector", "f2", (dims,)),
            ("slate", "i4", (len(layout.placements) * layout.slate,)),
            ("recent_event", "u8", (layout.recent_events,)),
            *((name, "i8") for name in ("event_count", "last_ts", "dedupe_count")),
            *((name, "i8") for name in ("next_offset", "saved_at", "last_batch")),
            ("session", "u8"),
            ("user", "i8"),
            *((name, "i4") for name in ("encoded_by", "session_length", "slate_release", "partition")),
            *((name, "i4") for name in ("history_block", "long_term_block", "long_term_size")),
            ("disliked_item", "i4", (layout.disliked_items,)),
            ("shown_item", "i4", (layout.impression_items,)),
            ("shown_s", "u4", (layout.impression_items,)),
            ("shown_count", "u1", (layout.impression_items,)),
            ("user_check", "u2"),
            ("dirty", "?"),
            ("explored", "u1"),
        ],
        align=True,
    )


def blank_record(kind: np.dtype[Any]) -> Records:
    """The record [1] of a new user: zeros, except where -1 means "none"."""
    blank = np.zeros(1, kind)
    for name in (
        "last_ts",
        "encoded_by",
        "slate",
        "slate_release",
        "shown_item",
        "disliked_item",
        "partition",
        "saved_at",
    ):
        blank[name] = -1
    blank["history_block"] = blank["long_term_block"] = NO_BLOCK
    return blank


def columns_of(records: Records) -> UserColumns:
    """Views of the records, a column each."""
    return UserColumns(*(records[name] for name in UserColumns._fields))


def slates_by_placement(slate: Rows, layout: StateLayout) -> Iterator[tuple[str, Rows]]:
    """Each placement with its slates [..., slate]: views of the column `slate` [..., placements · slate]."""
    for number, name in enumerate(layout.placements):
        yield name, slate[..., number * layout.slate : (number + 1) * layout.slate]


def activity_of(columns: UserColumns) -> ActivityColumns:
    """Those of the columns that compiled functions take."""
    return ActivityColumns(*(getattr(columns, name) for name in ActivityColumns._fields))


def record_bytes(layout: StateLayout, dims: int, state_dims: int) -> dict[str, int]:
    """Bytes of each field of a user's record, and of its padding."""
    kind = record_type(layout, dims, state_dims)
    fields = {name: kind[name].itemsize for name in UserColumns._fields}
    return fields | {"padding": kind.itemsize - sum(fields.values())}
