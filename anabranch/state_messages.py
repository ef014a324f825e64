"""The messages of `user-state`: saved user states in every format, and the markers that say how far they go."""

from __future__ import annotations

from msgspec import Struct

from anabranch.placements import FOR_YOU


class UserState(Struct, frozen=True, kw_only=True, array_like=True, tag=2):
    """The saved state of a user. Topic `user-state`, key `user_id`; a tombstone removes the user.

    A MessagePack array whose first element is the version of the format. A later format gets another struct and tag;
    this one remains, to be read. Arrays are little-endian bytes. An item is its 64-bit stable hash (0: none).
    """

    next_offset: int
    """The state includes the user's events before this offset of the partition, and no later ones."""
    encoded_by: str | None
    """The release that computed `recurrent` [S] and `vector` [d], float16; None: compute them from the history."""
    recurrent: bytes
    vector: bytes
    observed: int
    """Number of events that ever entered the history. It keeps the newest, in order of time."""
    history_items: bytes
    """uint64"""
    history_types: bytes
    """uint8, by `EVENT_TYPES`"""
    history_s: bytes
    """uint32, seconds since 1970"""
    last_ts: int
    session: int
    session_length: int
    own_items: bytes
    """uint64, long-term items: of events that left the history"""
    own_logs: bytes
    """float32, log2 of the decayed count as a forward decay"""
    own_counts: bytes
    """float32"""
    own_first: bytes
    """uint32, seconds since 1970"""
    own_last: bytes
    """uint32, seconds since 1970"""
    slate: bytes
    """uint64"""
    slate_release: str | None
    """None: the user has no slate."""
    seen: int
    """Number of event ids ever checked for duplicates. Hashes of the newest ids are kept, oldest first."""
    recent_events: bytes
    """uint64"""
    explored: int = 0
    """How many of the last places of the slate were drawn at random. Earlier versions pass over it."""
    placement: str = FOR_YOU.name
    """The first placement, whose slate `slate` is. Earlier versions pass over it, as over the next."""
    slates: dict[str, bytes] = {}
    """uint64, the slates of the other placements, by name."""
    shown_items: bytes = b""
    """uint64, what the user was shown and has not taken since. Earlier versions pass over it, as over the next."""
    shown_counts: bytes = b""
    """uint8, how often"""
    shown_s: bytes = b""
    """uint32, when last, seconds since 1970"""
    disliked_items: bytes = b""
    """uint64, what the user does not want to see again, the newest last"""


class LongTermItems(Struct, frozen=True, kw_only=True, array_like=True):
    """The long-term items of `UserState`, in a state that is written in the first format."""

    own_items: bytes
    own_logs: bytes
    own_counts: bytes
    own_first: bytes
    own_last: bytes


class UserStateV1(Struct, frozen=True, kw_only=True, array_like=True, tag=1):
    """The first format of `UserState`, whose long-term items include those of the history.

    Written with the setting `state_format` 1 alone, for the roll-out of the second format.
    """

    next_offset: int
    """The state includes the user's events before this offset of the partition, and no later ones."""
    encoded_by: str | None
    """The release that computed `recurrent` [S] and `vector` [d], float32; None: compute them from the history."""
    recurrent: bytes
    vector: bytes
    observed: int
    """Number of events that ever entered the history. It keeps the newest, in order of time."""
    history_items: bytes
    """uint64"""
    history_types: bytes
    """uint8, by `EVENT_TYPES`"""
    history_ts: bytes
    """int64, ms"""
    last_ts: int
    session: int
    session_length: int
    own_items: bytes
    """uint64"""
    own_logs: bytes
    """float32, log2 of the decayed count as a forward decay"""
    own_counts: bytes
    """float32"""
    own_first: bytes
    """int64, seconds"""
    own_last: bytes
    """int64, seconds"""
    slate: bytes
    """uint64"""
    slate_release: str | None
    """None: the user has no slate."""
    seen: int
    """Number of event ids ever checked for duplicates. Hashes of the newest ids are kept, oldest first."""
    recent_events: bytes
    """uint64"""
    long_term: LongTermItems | None = None
    """The long-term items as the second format has them, which cannot be computed from the above to the last bit. The
    versions that know the first format alone pass over it."""
    explored: int = 0
    """As in `UserState`, like the next six."""
    placement: str = FOR_YOU.name
    slates: dict[str, bytes] = {}
    shown_items: bytes = b""
    shown_counts: bytes = b""
    shown_s: bytes = b""
    disliked_items: bytes = b""


SavedState = UserState | UserStateV1
"""A saved state in any format. `anabranch.ranking.user_state.formats` converts it to the newest, and back."""
NEWEST_STATE_FORMAT = 2
"""The tag of `UserState`. A later one was written by a later version of Anabranch."""


class Epoch(Struct, frozen=True, array_like=True):
    """The release that ranked the events of a partition from an offset on."""

    offset: int
    release: str


class Rebase(Struct, frozen=True, array_like=True):
    """The log of `events` lost its end, or was replaced: offsets from `offset` on mean other events than before."""

    states_end: int
    """Saved states before this offset of `user-state` count in the log as it was before."""
    offset: int
    """Those states hold no event of the present log from this offset on, whatever `UserState.next_offset` says."""
    feedback_end: int
    """Feedback before this offset of `feedback` is about the log as it was before."""


class StateMarker(Struct, frozen=True, kw_only=True, array_like=True, tag=1):
    """How far the saved states of a partition go. Topic `user-state`, empty key, which no user has."""

    offset: int
    """The saved states include every event before this offset. Some are newer: see `UserState.next_offset`."""
    rankings_offset: int
    """The rankings of the events from `offset` on are at this offset of `rankings` or later."""
    epochs: list[Epoch]
    """The releases that ranked the events from `offset` on, oldest first. Earlier events have no ranking."""
    events_topic_id: str = ""
    """The id of the topic `events` that the offsets count in; empty in markers of earlier versions."""
    rebases: list[Rebase] = []
    """Oldest first. As a rule there is none."""
    group: str = ""
    """The consumer group of the rankers whose states these are; empty: not known."""
    partitions: int = 0
    """The number of partitions over which users are spread; 0: not known."""
    moving_to: int = 0
    """Not 0: `topics repartition` is moving users to so many partitions, and nothing may rank before it is done."""


STATE_MARKER_KEY = b""
NEWEST_MARKER_FORMAT = 1
