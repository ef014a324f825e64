"""User states to `UserState` messages and back: what the log holds of a user, and what memory does."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from anabranch.messages import SavedState, UserState
from anabranch.ranking.types import Slots
from anabranch.ranking.user_state.block_pool import BlockLists
from anabranch.ranking.user_state.store import NOT_ENCODED, StateSnapshot, UserColumns, UserStates, ring_places
from anabranch.ranking.user_state.update import LAST_SECOND
from anabranch.ranking.vocabulary import ItemVocabulary, ReleaseNumbers

Mask = NDArray[np.bool_]
OWN = {"own_items": "<u8", "own_logs": "<f4", "own_counts": "<f4", "own_first": "<u4", "own_last": "<u4"}
"""Fields of a message that run along its own items, and what they hold."""


OF_ITEMS = ("history_item", "own_item", "slate")


def save(states: UserStates, slots: Slots, item_ids: ItemVocabulary, releases: ReleaseNumbers) -> list[UserState]:
    """What the slots [B] hold, as messages that `load` makes the same states of, to the last bit."""
    (columns, lists), layout = states.copy(slots), states.layout
    in_ring, ring = ring_places(columns.observed, layout.history)
    in_recent, recent = ring_places(columns.seen, layout.recent_events)
    own, shown = np.arange(layout.own_items) < columns.own_size[:, None], columns.slate >= 0
    history_items = _slices(item_ids.hashes(np.take_along_axis(lists.history_item, ring, 1)), in_ring)
    history_types = _slices(np.take_along_axis(lists.history_type, ring, 1), in_ring)
    history_s = _slices(np.take_along_axis(lists.history_s, ring, 1), in_ring)
    recent_events = _slices(np.take_along_axis(columns.recent_event, recent, 1), in_recent)
    own_items = _slices(item_ids.hashes(lists.own_item), own)
    own_logs, own_counts = _slices(lists.own_log, own), _slices(lists.own_count, own)
    own_first, own_last = _slices(lists.own_first_s, own), _slices(lists.own_last_s, own)
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
            history_s=history_s[at],
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
    states: UserStates, slots: Slots, messages: Sequence[SavedState], item_ids: ItemVocabulary, releases: ReleaseNumbers
) -> None:
    """Make the slots [B], all distinct, what the messages say; `saved_at` is the caller's to set.

    Of what the layout has no room for, the newest history, the strongest own items and the top of the slate are kept.
    A recurrent state of another size than the live release's is left to be made anew.
    """
    layout = states.layout
    saved = [_strongest(upgraded(one, layout.own_half_life_s), layout.own_items) for one in messages]
    columns, lists = states.blank_columns(len(saved)), BlockLists.blank(len(saved), layout.history, layout.own_items)
    columns.user[:], columns.partition[:] = states.columns.user[slots], states.columns.partition[slots]
    columns.next_offset[:] = [one.next_offset for one in saved]
    columns.observed[:] = [one.observed for one in saved]
    columns.last_ts[:] = [one.last_ts for one in saved]
    columns.session[:] = np.array([one.session for one in saved], np.uint64)
    columns.session_length[:] = [min(one.session_length, layout.history) for one in saved]
    columns.seen[:] = [one.seen for one in saved]
    columns.own_size[:] = [len(one.own_items) // 8 for one in saved]
    columns.slate_release[:] = [_number(one.slate_release, releases) for one in saved]
    _load_vectors(columns, saved, releases)

    rings: dict[str, tuple[NDArray[Any], NDArray[np.int64], int, str, list[bytes]]] = {
        "history_item": (
            lists.history_item,
            columns.observed,
            layout.history,
            "<u8",
            [one.history_items for one in saved],
        ),
        "history_type": (
            lists.history_type,
            columns.observed,
            layout.history,
            "<u1",
            [one.history_types for one in saved],
        ),
        "history_s": (lists.history_s, columns.observed, layout.history, "<u4", [one.history_s for one in saved]),
        "recent_event": (
            columns.recent_event,
            columns.seen,
            layout.recent_events,
            "<u8",
            [one.recent_events for one in saved],
        ),
    }
    for name, (target, total, size, dtype, of_each) in rings.items():
        user, back, values = _newest(of_each, np.dtype(dtype), size)
        target[user, (total[user] - back) % size] = _rows(name, values, item_ids)

    runs: dict[str, tuple[NDArray[Any], str, list[bytes]]] = {
        "own_item": (lists.own_item, "<u8", [one.own_items for one in saved]),
        "own_log": (lists.own_log, "<f4", [one.own_logs for one in saved]),
        "own_count": (lists.own_count, "<f4", [one.own_counts for one in saved]),
        "own_first_s": (lists.own_first_s, "<u4", [one.own_first for one in saved]),
        "own_last_s": (lists.own_last_s, "<u4", [one.own_last for one in saved]),
        "slate": (columns.slate, "<u8", [one.slate[: 8 * layout.slate] for one in saved]),
    }
    for name, (target, dtype, of_each) in runs.items():
        user, place, values = _flat(of_each, np.dtype(dtype))
        target[user, place] = _rows(name, values, item_ids)
    states.put(slots, StateSnapshot(columns, lists))


def upgraded(one: SavedState, own_half_life_s: int) -> UserState:
    """The message as it would be written now.

    Own items of the first version counted what the history holds too: that is taken out of them again. When the last of
    the others was is not told there; what the history holds was later in any case.
    """
    if isinstance(one, UserState):
        return one
    history, own = np.frombuffer(one.history_items, "<u8"), np.frombuffer(one.own_items, "<u8")
    history_s = np.minimum(np.frombuffer(one.history_ts, "<i8") // 1000, LAST_SECOND)
    first, last = (np.frombuffer(times, "<i8") for times in (one.own_first, one.own_last))
    logs = np.frombuffer(one.own_logs, "<f4").astype(np.float64)
    same = own[:, None] == history  # [own items, history]
    fading = np.where(same, np.exp2(history_s / own_half_life_s - logs[:, None]), 0).sum(axis=1)
    counts = np.frombuffer(one.own_counts, "<f4") - same.sum(axis=1)
    before = counts > 0
    left = logs + np.log2(np.maximum(1 - fading, np.finfo(np.float32).eps))
    return UserState(
        **{name: getattr(one, name) for name in UserState.__struct_fields__ if hasattr(one, name)}
        | {
            "recurrent": np.frombuffer(one.recurrent, "<f4").astype("<f2").tobytes(),
            "vector": np.frombuffer(one.vector, "<f4").astype("<f2").tobytes(),
            "history_s": history_s.astype("<u4").tobytes(),
            "own_items": own[before].tobytes(),
            "own_logs": left[before].astype("<f4").tobytes(),
            "own_counts": counts[before].astype("<f4").tobytes(),
            "own_first": np.minimum(first, LAST_SECOND)[before].astype("<u4").tobytes(),
            "own_last": np.minimum(np.where(same.any(axis=1), first, last), LAST_SECOND)[before]
            .astype("<u4")
            .tobytes(),
        }
    )


def _load_vectors(columns: UserColumns, saved: Sequence[UserState], releases: ReleaseNumbers) -> None:
    dims, state_dims = columns.vector.shape[1], columns.recurrent.shape[1]
    fits = np.array([len(one.vector) == 2 * dims and len(one.recurrent) == 2 * state_dims for one in saved], np.bool_)
    kept = [one for one, fit in zip(saved, fits, strict=True) if fit]
    columns.recurrent[fits] = _floats([one.recurrent for one in kept], state_dims)
    columns.vector[fits] = _floats([one.vector for one in kept], dims)
    columns.encoded_by[fits] = [_number(one.encoded_by, releases) for one in kept]


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


def _rows(column: str, values: NDArray[Any], item_ids: ItemVocabulary) -> NDArray[Any]:
    """The values, as rows where they are hashes of items."""
    return item_ids.rows_of_hashes(values.astype(np.uint64)) if column in OF_ITEMS else values


def _floats(messages: Sequence[bytes], length: int) -> NDArray[np.float16]:
    return np.frombuffer(b"".join(messages), "<f2").reshape(len(messages), length)


def _number(release: str | None, releases: ReleaseNumbers) -> int:
    return NOT_ENCODED if release is None else releases.number(release)
