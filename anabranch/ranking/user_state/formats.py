"""The formats of a saved user state: any of them to the newest, and the newest to the one before.

The policy: a version of Anabranch that brings a new format reads it, and writes the one before by default (setting
`state_format`), so that going back to the version before it works. The next version writes the new format.
"""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np

from anabranch.messages import NEWEST_STATE_FORMAT, LongTermItems, SavedState, UserState, UserStateV1
from anabranch.ranking.user_state.update import LAST_SECOND

OWN_FIELDS = LongTermItems.__struct_fields__


def format_of(payload: bytes) -> int | None:
    """The format that a saved state or a marker says it has; None if it is neither."""
    try:
        version = msgspec.msgpack.decode(payload, type=list[Any])[0]
    except (msgspec.DecodeError, IndexError):
        return None
    return version if isinstance(version, int) else None


def in_format(state: UserState, version: int, half_life_s: int) -> SavedState:
    """The state in a format that this version of Anabranch writes: the newest, or the one before it."""
    return state if version == NEWEST_STATE_FORMAT else _in_first_format(state, half_life_s)


def upgraded(state: SavedState, half_life_s: int) -> UserState:
    """The state in the newest format.

    In the first format, the long-term items included the events of the history; these are subtracted. It did not say
    when the last of the other events was: if the history has an event about the item, the time of the first is taken.
    """
    if isinstance(state, UserState):
        return state
    exact = None if state.long_term is None else msgspec.structs.asdict(state.long_term)
    return _from_first_format(state, _rest_of_long_term(state, half_life_s) if exact is None else exact)


def _from_first_format(state: UserStateV1, long_term: dict[str, bytes]) -> UserState:
    history_s = np.minimum(np.frombuffer(state.history_ts, "<i8") // 1000, LAST_SECOND)
    return UserState(
        **{name: getattr(state, name) for name in UserState.__struct_fields__ if hasattr(state, name)}
        | {
            "recurrent": np.frombuffer(state.recurrent, "<f4").astype("<f2").tobytes(),
            "vector": np.frombuffer(state.vector, "<f4").astype("<f2").tobytes(),
            "history_s": history_s.astype("<u4").tobytes(),
        }
        | long_term
    )


def _rest_of_long_term(state: UserStateV1, half_life_s: int) -> dict[str, bytes]:
    """The long-term items without the events of the history."""
    history, own = np.frombuffer(state.history_items, "<u8"), np.frombuffer(state.own_items, "<u8")
    history_s = np.minimum(np.frombuffer(state.history_ts, "<i8") // 1000, LAST_SECOND)
    first, last = (np.frombuffer(times, "<i8") for times in (state.own_first, state.own_last))
    log2_counts = np.frombuffer(state.own_logs, "<f4").astype(np.float64)
    is_same = own[:, None] == history  # [long-term items, history]
    history_share = np.where(is_same, np.exp2(history_s / half_life_s - log2_counts[:, None]), 0).sum(axis=1)
    counts = np.frombuffer(state.own_counts, "<f4") - is_same.sum(axis=1)
    keep = counts > 0
    log2_rest = log2_counts + np.log2(np.maximum(1 - history_share, np.finfo(np.float32).eps))
    last_rest = np.where(is_same.any(axis=1), first, last)
    return {
        "own_items": own[keep].tobytes(),
        "own_logs": log2_rest[keep].astype("<f4").tobytes(),
        "own_counts": counts[keep].astype("<f4").tobytes(),
        "own_first": np.minimum(first, LAST_SECOND)[keep].astype("<u4").tobytes(),
        "own_last": np.minimum(last_rest, LAST_SECOND)[keep].astype("<u4").tobytes(),
    }


def _in_first_format(state: UserState, half_life_s: int) -> UserStateV1:
    shared = {name: getattr(state, name) for name in UserStateV1.__struct_fields__ if hasattr(state, name)}
    history_ms = np.frombuffer(state.history_s, "<u4").astype("<i8") * 1000
    return UserStateV1(
        **shared
        | {
            "recurrent": np.frombuffer(state.recurrent, "<f2").astype("<f4").tobytes(),
            "vector": np.frombuffer(state.vector, "<f2").astype("<f4").tobytes(),
            "history_ts": history_ms.tobytes(),
            "long_term": LongTermItems(**{name: getattr(state, name) for name in OWN_FIELDS}),
        }
        | _whole_of_long_term(state, half_life_s)
    )


def _whole_of_long_term(state: UserState, half_life_s: int) -> dict[str, bytes]:
    """The long-term items with the events of the history, one event of which weighs 1 at its time."""
    seconds = np.frombuffer(state.history_s, "<u4").astype(np.int64)
    own_first, own_last = (np.frombuffer(times, "<u4").astype(np.int64) for times in (state.own_first, state.own_last))
    entries = np.concatenate([np.frombuffer(state.own_items, "<u8"), np.frombuffer(state.history_items, "<u8")])
    items, item = np.unique(entries, return_inverse=True)
    first, last = np.full(len(items), LAST_SECOND, np.int64), np.zeros(len(items), np.int64)
    np.minimum.at(first, item, np.concatenate([own_first, seconds]))
    np.maximum.at(last, item, np.concatenate([own_last, seconds]))
    ones = np.ones(len(seconds))
    counts = np.bincount(item, np.concatenate([np.frombuffer(state.own_counts, "<f4"), ones]), len(items))
    logs = np.full(len(items), -np.inf)
    entry_logs = np.concatenate([np.frombuffer(state.own_logs, "<f4").astype(np.float64), seconds / half_life_s])
    np.logaddexp2.at(logs, item, entry_logs)
    return {
        "own_items": items.astype("<u8").tobytes(),
        "own_logs": logs.astype("<f4").tobytes(),
        "own_counts": counts.astype("<f4").tobytes(),
        "own_first": first.astype("<i8").tobytes(),
        "own_last": last.astype("<i8").tobytes(),
    }
