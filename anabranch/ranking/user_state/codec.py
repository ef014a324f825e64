"""User states as `UserState` messages, and back; and the slates of a ranking as those that its user was shown last."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from anabranch.messages import Ranking, SavedState, UserState
from anabranch.ranking.types import Mask, Positions, Rows, Slots
from anabranch.ranking.user_state.columns import NOT_ENCODED, UserColumns, slates_by_placement
from anabranch.ranking.user_state.formats import upgraded
from anabranch.ranking.user_state.layout import StateLayout
from anabranch.ranking.user_state.store import StateSnapshot, UserStates, explored_of_first
from anabranch.ranking.user_state.user_lists import UserLists, ring_indices
from anabranch.ranking.vocabulary import ItemVocabulary, ReleaseNumbers

HASH_BYTES = 8
"""Items and event ids are saved as hashes."""
LONG_TERM_FIELDS = {"own_items": "<u8", "own_logs": "<f4", "own_counts": "<f4", "own_first": "<u4", "own_last": "<u4"}
"""Fields of a message with an entry per long-term item, and their types."""
SHOWN_FIELDS = {"shown_items": "<u8", "shown_counts": "<u1", "shown_s": "<u4"}
"""Those with an entry per item of impressions. An entry without an item stays, so that all keep their places."""


class FlatValues(NamedTuple):
    """Lists of n users end to end, N values in all."""

    user: Positions
    """[N] whose value it is"""
    entry: Positions
    """[N] its index in the user's list"""
    from_end: Positions
    """[N] how far it is from the end of the user's list: 1 for the last value"""
    values: NDArray[Any]
    """[N]"""


def save(states: UserStates, slots: Slots, item_ids: ItemVocabulary, releases: ReleaseNumbers) -> list[UserState]:
    """The states in the slots [B] as messages, from which `load` makes the same states to the last bit."""
    (columns, lists), layout = states.snapshot(slots), states.layout
    in_history, ring = ring_indices(columns.event_count, layout.history)
    in_recent, recent_ring = ring_indices(columns.dedupe_count, layout.recent_events)
    in_long_term = np.arange(layout.long_term_items) < columns.long_term_size[:, None]
    history_items = _bytes_by_row(item_ids.hashes(np.take_along_axis(lists.history_item, ring, 1)), in_history)
    history_types = _bytes_by_row(np.take_along_axis(lists.history_type, ring, 1), in_history)
    history_s = _bytes_by_row(np.take_along_axis(lists.history_s, ring, 1), in_history)
    recent_events = _bytes_by_row(np.take_along_axis(columns.recent_event, recent_ring, 1), in_recent)
    own_items = _bytes_by_row(item_ids.hashes(lists.long_term.item), in_long_term)
    own_logs = _bytes_by_row(lists.long_term.log2_decayed_count, in_long_term)
    own_counts = _bytes_by_row(lists.long_term.event_count, in_long_term)
    own_first = _bytes_by_row(lists.long_term.first_s, in_long_term)
    own_last = _bytes_by_row(lists.long_term.last_s, in_long_term)
    slates = {
        name: _bytes_by_row(item_ids.hashes(slate), slate >= 0)
        for name, slate in slates_by_placement(columns.slate, layout)
    }
    in_shown = np.arange(layout.impression_items) < _filled_lengths(columns.shown_item)[:, None]
    shown_items = _bytes_by_row(item_ids.hashes(columns.shown_item), in_shown)
    shown_counts = _bytes_by_row(columns.shown_count, in_shown)
    shown_s = _bytes_by_row(columns.shown_s, in_shown)
    disliked = _bytes_by_row(item_ids.hashes(columns.disliked_item), columns.disliked_item >= 0)
    first, *others = layout.placements
    is_encoded = (columns.encoded_by != NOT_ENCODED)[:, None]
    recurrent = _bytes_by_row(columns.recurrent, np.broadcast_to(is_encoded, columns.recurrent.shape))
    vectors = _bytes_by_row(columns.vector, np.broadcast_to(is_encoded, columns.vector.shape))
    return [
        UserState(
            next_offset=int(columns.next_offset[row]),
            encoded_by=releases.id(int(columns.encoded_by[row])),
            recurrent=recurrent[row],
            vector=vectors[row],
            observed=int(columns.event_count[row]),
            history_items=history_items[row],
            history_types=history_types[row],
            history_s=history_s[row],
            last_ts=int(columns.last_ts[row]),
            session=int(columns.session[row]),
            session_length=int(columns.session_length[row]),
            own_items=own_items[row],
            own_logs=own_logs[row],
            own_counts=own_counts[row],
            own_first=own_first[row],
            own_last=own_last[row],
            slate=slates[first][row],
            slate_release=releases.id(int(columns.slate_release[row])),
            seen=int(columns.dedupe_count[row]),
            recent_events=recent_events[row],
            explored=int(columns.explored[row]),
            placement=first,
            slates={name: slates[name][row] for name in others},
            shown_items=shown_items[row],
            shown_counts=shown_counts[row],
            shown_s=shown_s[row],
            disliked_items=disliked[row],
        )
        for row in range(len(slots))
    ]


def load(
    states: UserStates, slots: Slots, messages: Sequence[SavedState], item_ids: ItemVocabulary, releases: ReleaseNumbers
) -> None:
    """Load messages [B] to the slots [B], distinct, of their users; `saved_at` is the caller's to set.

    If the layout has no room for all of a state, the newest of the history, the long-term items with the greatest
    decayed counts, the top of each slate and what was shown or disliked last are kept, and no slate of a placement that
    is not in it. Vectors of other lengths than the live release's are dropped: the user is encoded again at the next
    event.
    """
    layout = states.layout
    saved = [_within_layout(upgraded(message, layout.half_life_s), layout) for message in messages]
    columns, lists = states.blank_columns(len(saved)), UserLists.empty(len(saved), layout)
    for name in ("user", "user_check", "partition"):
        getattr(columns, name)[:] = getattr(states.columns, name)[slots]
    _load_scalars(columns, saved, layout, releases)
    _load_vectors(columns, saved, releases)
    _load_history(columns, lists, saved, item_ids)
    _load_recent_events(columns, saved)
    _load_long_term(lists, saved, item_ids)
    _load_slates(columns, saved, layout, item_ids)
    _load_item_lists(columns, saved, item_ids)
    states.overwrite(slots, StateSnapshot(columns, lists))


def restore_last_slates(
    states: UserStates, slot: int, ranking: Ranking, item_ids: ItemVocabulary, releases: ReleaseNumbers
) -> None:
    """The user in the slot was shown the slates of this ranking last."""
    slates = {name: item_ids.mentioned(item.item_id for item in slate) for name, slate in ranking.by_placement.items()}
    explored = ranking.explored_at(states.layout.placements[0])
    states.set_last_slates(slot, slates, releases.number(ranking.release), explored)


def _load_scalars(
    columns: UserColumns, saved: Sequence[UserState], layout: StateLayout, releases: ReleaseNumbers
) -> None:
    columns.next_offset[:] = [state.next_offset for state in saved]
    columns.event_count[:] = [state.observed for state in saved]
    columns.last_ts[:] = [state.last_ts for state in saved]
    columns.session[:] = np.array([state.session for state in saved], np.uint64)
    columns.session_length[:] = [min(state.session_length, layout.history) for state in saved]
    columns.dedupe_count[:] = [state.seen for state in saved]
    columns.long_term_size[:] = [len(state.own_items) // HASH_BYTES for state in saved]
    columns.slate_release[:] = [_number(state.slate_release, releases) for state in saved]
    columns.explored[:] = [
        explored_of_first(state.explored, len(state.slate) // HASH_BYTES, layout.slate)
        if state.placement == layout.placements[0]
        else 0
        for state in saved
    ]


def _load_vectors(columns: UserColumns, saved: Sequence[UserState], releases: ReleaseNumbers) -> None:
    dims, state_dims = columns.vector.shape[1], columns.recurrent.shape[1]
    fits = np.array(
        [len(state.vector) == 2 * dims and len(state.recurrent) == 2 * state_dims for state in saved], np.bool_
    )
    fitting = [state for state, is_fitting in zip(saved, fits, strict=True) if is_fitting]
    columns.recurrent[fits] = _float16_rows([state.recurrent for state in fitting], state_dims)
    columns.vector[fits] = _float16_rows([state.vector for state in fitting], dims)
    columns.encoded_by[fits] = [_number(state.encoded_by, releases) for state in fitting]


def _load_history(columns: UserColumns, lists: UserLists, saved: Sequence[UserState], item_ids: ItemVocabulary) -> None:
    size, count = lists.history_item.shape[1], columns.event_count
    items = _flatten_last([state.history_items for state in saved], "<u8", size)
    types = _flatten_last([state.history_types for state in saved], "<u1", size)
    seconds = _flatten_last([state.history_s for state in saved], "<u4", size)
    lists.history_item[items.user, _ring_index(items, count, size)] = item_ids.rows_of_hashes(items.values)
    lists.history_type[types.user, _ring_index(types, count, size)] = types.values
    lists.history_s[seconds.user, _ring_index(seconds, count, size)] = seconds.values


def _load_recent_events(columns: UserColumns, saved: Sequence[UserState]) -> None:
    size = columns.recent_event.shape[1]
    events = _flatten_last([state.recent_events for state in saved], "<u8", size)
    columns.recent_event[events.user, _ring_index(events, columns.dedupe_count, size)] = events.values


def _load_slates(
    columns: UserColumns, saved: Sequence[UserState], layout: StateLayout, item_ids: ItemVocabulary
) -> None:
    for name, column in slates_by_placement(columns.slate, layout):
        encoded = [state.slate if name == state.placement else state.slates.get(name, b"") for state in saved]
        slate = _flatten([hashes[: HASH_BYTES * layout.slate] for hashes in encoded], "<u8")
        column[slate.user, slate.entry] = item_ids.rows_of_hashes(slate.values)


def _load_item_lists(columns: UserColumns, saved: Sequence[UserState], item_ids: ItemVocabulary) -> None:
    items, counts, seconds = (
        _flatten([getattr(state, name) for state in saved], dtype) for name, dtype in SHOWN_FIELDS.items()
    )
    columns.shown_item[items.user, items.entry] = item_ids.rows_of_hashes(items.values)
    columns.shown_count[counts.user, counts.entry] = counts.values
    columns.shown_s[seconds.user, seconds.entry] = seconds.values
    disliked = _flatten_last([state.disliked_items for state in saved], "<u8", columns.disliked_item.shape[1])
    columns.disliked_item[disliked.user, disliked.entry] = item_ids.rows_of_hashes(disliked.values)


def _load_long_term(lists: UserLists, saved: Sequence[UserState], item_ids: ItemVocabulary) -> None:
    items = _flatten([state.own_items for state in saved], "<u8")
    lists.long_term.item[items.user, items.entry] = item_ids.rows_of_hashes(items.values)
    for column, encoded, dtype in (
        (lists.long_term.log2_decayed_count, [state.own_logs for state in saved], "<f4"),
        (lists.long_term.event_count, [state.own_counts for state in saved], "<f4"),
        (lists.long_term.first_s, [state.own_first for state in saved], "<u4"),
        (lists.long_term.last_s, [state.own_last for state in saved], "<u4"),
    ):
        flat = _flatten(encoded, dtype)
        column[flat.user, flat.entry] = flat.values


def _within_layout(state: UserState, layout: StateLayout) -> UserState:
    """The state with as many entries of its lists as there is room for: the long-term items with the greatest decayed
    counts, and what was shown last, in their order."""
    log2_counts, shown_s = np.frombuffer(state.own_logs, "<f4"), np.frombuffer(state.shown_s, "<u4")
    state = _with_greatest(state, LONG_TERM_FIELDS, log2_counts, layout.long_term_items)
    return _with_greatest(state, SHOWN_FIELDS, shown_s.astype(np.int64), layout.impression_items)


def _with_greatest(state: UserState, fields: Mapping[str, str], by: NDArray[Any], limit: int) -> UserState:
    """The state with at most `limit` entries of these fields, those for which `by` [n] is greatest, in their order."""
    if len(by) <= limit:
        return state
    keep = np.sort(np.argsort(-by, kind="stable")[:limit])
    entries = {name: np.frombuffer(getattr(state, name), dtype)[keep].tobytes() for name, dtype in fields.items()}
    return msgspec.structs.replace(state, **entries)


def _filled_lengths(items: Rows) -> NDArray[np.int64]:
    """How many entries of each list [n, k] go up to its last item; -1 is none."""
    lengths: NDArray[np.int64] = np.where(items >= 0, np.arange(1, items.shape[1] + 1), 0).max(axis=1, initial=0)
    return lengths


def _bytes_by_row(values: NDArray[Any], mask: Mask) -> list[bytes]:
    """For each row of `values` [B, n], the bytes of the values that `mask` [B, n] selects."""
    flat = values[mask].tobytes()
    ends = (np.cumsum(mask.sum(axis=1)) * values.itemsize).tolist()
    return [flat[start:end] for start, end in pairwise([0, *ends])]


def _flatten(encoded: Sequence[bytes], dtype: str) -> FlatValues:
    """The lists of n users, decoded."""
    counts = np.array([len(entries) for entries in encoded], np.int64) // np.dtype(dtype).itemsize
    user = np.repeat(np.arange(len(encoded)), counts)
    index = np.arange(len(user)) - np.repeat(np.cumsum(counts) - counts, counts)
    return FlatValues(user, index, counts[user] - index, np.frombuffer(b"".join(encoded), dtype))


def _flatten_last(encoded: Sequence[bytes], dtype: str, limit: int) -> FlatValues:
    """The last `limit` entries of each list, or all of a shorter one, decoded."""
    return _flatten([entries[-limit * np.dtype(dtype).itemsize :] for entries in encoded], dtype)


def _ring_index(flat: FlatValues, count: NDArray[np.int64], size: int) -> Positions:
    """Where each value [N] is in its user's ring of `size` entries, to which `count` [n] were written."""
    ring: Positions = (count[flat.user] - flat.from_end) % size
    return ring


def _float16_rows(encoded: Sequence[bytes], length: int) -> NDArray[np.float16]:
    return np.frombuffer(b"".join(encoded), "<f2").reshape(len(encoded), length)


def _number(release: str | None, releases: ReleaseNumbers) -> int:
    return NOT_ENCODED if release is None else releases.number(release)
