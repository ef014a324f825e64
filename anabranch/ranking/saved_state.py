"""User states to `UserState` messages and back: what the log holds of a user, and what memory does."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from anabranch.messages import UserState
from anabranch.ranking.core import NOT_ENCODED
from anabranch.ranking.item_ids import ItemIds
from anabranch.ranking.live import ReleaseNumbers
from anabranch.ranking.state import Slots, UserStates

Mask = NDArray[np.bool_]
OWN = {"own_items": "<u8", "own_logs": "<f4", "own_counts": "<f4", "own_first": "<i8", "own_last": "<i8"}
"""Fields of a message that run along its own items, and what they hold."""


OF_ITEMS = ("history_item", "own_item", "slate")


def save(states: UserStates, slots: Slots, item_ids: ItemIds, releases: ReleaseNumbers) -> list[UserState]:
    """What the slots [B] hold, as messages that `load` makes the same states of, to the last bit."""
    columns, layout = states.copy(slots), states.layout
    in_ring, ring = _ring(columns.observed, layout.history)
    in_recent, recent = _ring(columns.seen, layout.recent_events)
    own, shown = columns.own_item >= 0, columns.slate >= 0
    history_items = _slices(item_ids.hashes(np.take_along_axis(columns.history_item, ring, 1)), in_ring)
    history_types = _slices(np.take_along_axis(columns.history_type, ring, 1), in_ring)
    history_ts = _slices(np.take_along_axis(columns.history_ts, ring, 1), in_ring)
    recent_events = _slices(np.take_along_axis(columns.recent_event, recent, 1), in_recent)
    own_items = _slices(item_ids.hashes(columns.own_item), own)
    own_logs, own_counts = _slices(columns.own_log, own), _slices(columns.own_count, own)
    own_first, own_last = _slices(columns.own_first_s, own), _slices(columns.own_last_s, own)
    slates = _slices(item_ids.hashes(columns.slate), shown)
    encoded = (columns.encoded_by != NOT_ENCODED)[:, None]
    recurrent = _slices(columns.recurrent, np.broadcast_to(encoded, columns.recurrent.shape))
    vectors = _slices(columns.vector, np.broadcast_to(encoded, columns.vector.shape))
    return [
        UserState(
            next_offset=int(columns.next_offset[at]),
            encoded_by=releases.id(int(columns.encoded_by[at])),
            recurrent=recurrent[at],
            vector=vectors[at],
            observed=int(columns.observed[at]),
            history_items=history_items[at],
            history_types=history_types[at],
            history_ts=history_ts[at],
            last_ts=int(columns.last_ts[at]),
            session=int(columns.session[at]),
            session_length=int(columns.session_length[at]),
            own_items=own_items[at],
            own_logs=own_logs[at],
            own_counts=own_counts[at],
            own_first=own_first[at],
            own_last=own_last[at],
            slate=slates[at],
            slate_release=releases.id(int(columns.slate_release[at])),
            seen=int(columns.seen[at]),
            recent_events=recent_events[at],
        )
        for at in range(len(slots))
    ]


def load(
    states: UserStates, slots: Slots, saved: Sequence[UserState], item_ids: ItemIds, releases: ReleaseNumbers
) -> None:
    """Make the slots [B], all distinct, what the messages say; `saved_at` is the caller's to set.

    Of what the layout has no room for, the newest history, the strongest own items and the top of the slate are kept.
    A recurrent state of another size than the live release's is left to be made anew.
    """
    states.blank(slots)
    columns, layout = states.columns, states.layout
    columns.next_offset[slots] = [one.next_offset for one in saved]
    columns.observed[slots] = [one.observed for one in saved]
    columns.last_ts[slots] = [one.last_ts for one in saved]
    columns.session[slots] = np.array([one.session for one in saved], np.uint64)
    columns.session_length[slots] = [min(one.session_length, layout.history) for one in saved]
    columns.seen[slots] = [one.seen for one in saved]
    columns.slate_release[slots] = [_number(one.slate_release, releases) for one in saved]
    _load_vectors(states, slots, saved, releases)

    rings = {
        "history_item": (columns.observed, layout.history, "<u8", [one.history_items for one in saved]),
        "history_type": (columns.observed, layout.history, "<u1", [one.history_types for one in saved]),
        "history_ts": (columns.observed, layout.history, "<i8", [one.history_ts for one in saved]),
        "recent_event": (columns.seen, layout.recent_events, "<u8", [one.recent_events for one in saved]),
    }
    for name, (total, size, dtype, messages) in rings.items():
        user, back, values = _newest(messages, np.dtype(dtype), size)
        at = slots[user]
        getattr(columns, name)[at, (total[at] - back) % size] = _rows(name, values, item_ids)

    saved = [_strongest(one, layout.own_items) for one in saved]
    lists = {
        "own_item": ("<u8", [one.own_items for one in saved]),
        "own_log": ("<f4", [one.own_logs for one in saved]),
        "own_count": ("<f4", [one.own_counts for one in saved]),
        "own_first_s": ("<i8", [one.own_first for one in saved]),
        "own_last_s": ("<i8", [one.own_last for one in saved]),
        "slate": ("<u8", [one.slate[: 8 * layout.slate] for one in saved]),
    }
    for name, (dtype, messages) in lists.items():
        user, place, values = _flat(messages, np.dtype(dtype))
        getattr(columns, name)[slots[user], place] = _rows(name, values, item_ids)


def _load_vectors(states: UserStates, slots: Slots, saved: Sequence[UserState], releases: ReleaseNumbers) -> None:
    dims, state_dims = states.dims
    fits = np.array([len(one.vector) == 4 * dims and len(one.recurrent) == 4 * state_dims for one in saved], np.bool_)
    kept = [one for one, fit in zip(saved, fits, strict=True) if fit]
    columns = states.columns
    columns.recurrent[slots[fits]] = _floats([one.recurrent for one in kept], state_dims)
    columns.vector[slots[fits]] = _floats([one.vector for one in kept], dims)
    columns.encoded_by[slots[fits]] = [_number(one.encoded_by, releases) for one in kept]


def _ring(total: NDArray[np.int64], size: int) -> tuple[Mask, NDArray[np.int64]]:
    """Which of `size` places [B, size] hold something, and where in the ring each stands, oldest first."""
    kept = np.minimum(total, size)[:, None]
    age = np.arange(size)
    return age < kept, (total[:, None] - kept + age) % size


def _slices(values: NDArray[Any], mask: Mask) -> list[bytes]:
    """Of each row of `values` [B, n], the bytes of what `mask` [B, n] selects."""
    flat = values[mask].tobytes()
    ends = (np.cumsum(mask.sum(axis=1)) * values.itemsize).tolist()
    return [flat[start:end] for start, end in pairwise([0, *ends])]


def _flat(messages: Sequence[bytes], dtype: np.dtype[Any]) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[Any]]:
    """All values end to end [N], with the message each is of and its place there, both [N]."""
    counts = np.array([len(one) for one in messages], np.int64) // dtype.itemsize
    user = np.repeat(np.arange(len(messages)), counts)
    place = np.arange(len(user)) - np.repeat(np.cumsum(counts) - counts, counts)
    return user, place, np.frombuffer(b"".join(messages), dtype)


def _newest(
    messages: Sequence[bytes], dtype: np.dtype[Any], size: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[Any]]:
    """As `_flat`, of the last `size` values of each, with how far each stands from the end instead of its place."""
    kept = [one[-size * dtype.itemsize :] for one in messages]
    user, place, values = _flat(kept, dtype)
    counts = np.array([len(one) for one in kept], np.int64) // dtype.itemsize
    return user, counts[user] - place, values


def _strongest(one: UserState, most: int) -> UserState:
    """The message with no more than `most` own items: those of the greatest decayed count, in their order."""
    if len(one.own_items) <= 8 * most:
        return one
    logs = np.frombuffer(one.own_logs, "<f4")
    keep = np.sort(np.argsort(-logs, kind="stable")[:most])
    return msgspec.structs.replace(
        one, **{name: np.frombuffer(getattr(one, name), dtype)[keep].tobytes() for name, dtype in OWN.items()}
    )


def _rows(column: str, values: NDArray[Any], item_ids: ItemIds) -> NDArray[Any]:
    """The values, as rows where they are hashes of items."""
    return item_ids.rows_of_hashes(values.astype(np.uint64)) if column in OF_ITEMS else values


def _floats(messages: Sequence[bytes], length: int) -> NDArray[np.float32]:
    return np.frombuffer(b"".join(messages), "<f4").reshape(len(messages), length)


def _number(release: str | None, releases: ReleaseNumbers) -> int:
    return NOT_ENCODED if release is None else releases.number(release)
