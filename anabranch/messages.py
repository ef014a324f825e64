"""The wire schema: every message on every topic, as JSON, decoded to types at the edge.

Unknown fields are ignored, so a producer may be newer than its reader. A missing required field or a wrong
type raises `InvalidMessage`, which names the field and keeps the original bytes for the dead letter.
"""

from __future__ import annotations

from typing import Annotated, Generic, Literal, TypeVar

import msgspec
from msgspec import Meta, Struct

EVENT_TYPES = ("view", "cart", "purchase", "search")
"""Position in this tuple is the event type's number in `step.onnx`."""

EventType = Literal["view", "cart", "purchase", "search"]
Identifier = Annotated[str, Meta(min_length=1, max_length=512)]
Milliseconds = Annotated[int, Meta(ge=0, le=253_402_300_799_999, description="UTC, milliseconds since 1970")]
"""Up to the year 9999: a time stamp in microseconds is told at once, not ranked as the far future."""

UNKNOWN_REPEAT_RATE = 0.2
"""What is assumed of an item before anything is known of it: one user in five comes back to it."""

ReleaseStatus = Literal["candidate", "shadow", "live", "retired", "rejected"]


class InvalidMessage(ValueError):
    """A message that its schema rejects: `reason` names the field, `payload` holds the bytes as they came."""

    def __init__(self, reason: str, payload: bytes) -> None:
        super().__init__(reason)
        self.reason = reason
        self.payload = payload


class Event(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One thing a user did. Topic `events`, key `user_id`."""

    event_id: Identifier
    user_id: Identifier
    type: EventType
    ts: Milliseconds
    item_id: Identifier | None = None
    query: Annotated[str, Meta(min_length=1, max_length=4096)] | None = None
    session_id: Identifier | None = None
    domain: Identifier | None = None
    context: dict[str, str] = {}

    def __post_init__(self) -> None:
        if self.type == "search" and self.query is None:
            raise ValueError("a `search` event needs `query`")
        if self.type != "search" and self.item_id is None:
            raise ValueError(f"a `{self.type}` event needs `item_id`")


class Item(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One thing that can be ranked. Topic `items`, key `item_id`; a tombstone (null value) removes it."""

    item_id: Identifier
    title: str
    description: str | None = None
    brand: str | None = None
    category: list[str] = []
    """Path from the widest to the narrowest, such as ["GROCERY", "SOUP"]."""
    price: float | None = None
    available: bool = True
    domain: Identifier | None = None
    vectors: dict[str, list[float]] = {}
    """Other modalities, such as an image vector: name → floats."""


class ItemVector(Struct, frozen=True, kw_only=True, tag="vector"):
    """One release's vector of an item. Topic `item-vectors`, key `item_id` + release; a tombstone removes it."""

    item_id: Identifier
    release: Identifier
    vector: bytes
    """float32, little endian, `dims` of the release long."""
    available: bool = True


class Coverage(Struct, frozen=True, kw_only=True, tag="coverage"):
    """The indexer has vectorised the catalogue for a release. Topic `item-vectors`, key the release alone.

    A ranker may swap to the release once it holds `items` vectors of it.
    """

    release: Identifier
    items: int
    ts: Milliseconds


class RankedItem(Struct, frozen=True, array_like=True):
    """One place of a slate: `[item_id, score]` on the wire."""

    item_id: str
    score: float


class Cause(Struct, frozen=True, kw_only=True):
    """The event that caused a ranking, and where it stands in the log."""

    event_id: str
    partition: int
    offset: int
    ts: Milliseconds


class Ranking(Struct, frozen=True, kw_only=True):
    """The slate a user would see now. Topic `rankings`, key `user_id`."""

    user_id: str
    release: str
    cause: Cause
    slate: list[RankedItem]
    ts: Milliseconds
    """When the ranker made it."""


class Feedback(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An event joined with the slate the user had when it came. Topic `feedback`, key `user_id`."""

    event: Event
    partition: int
    offset: int
    release: str | None = None
    """The release that made the slate; None: the user had been shown none."""
    slate_size: int = 0
    rank: int | None = None
    """1 is the top; None: the item was not on the slate."""
    propensity: float | None = None
    """Probability with which the slate was shown, when it was explored."""


class Neighbours(Struct, frozen=True, kw_only=True):
    """The items co-visited after an item, strongest first. Topic `neighbours`, key `item_id`."""

    item_id: Identifier
    neighbours: list[RankedItem]
    """Score: share of the item's co-visits that go to the neighbour, 0 to 1."""
    popularity: float
    """The item's own decayed count as a share of all, 0 to 1."""
    first_seen: Milliseconds
    """When the first event about the item happened."""
    repeat_rate: float = UNKNOWN_REPEAT_RATE
    """Share of the item's users who came back to it, 0 to 1."""
    ts: Milliseconds


class ReleaseNotice(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What became of a release. Topic `releases`, key the release id; the newest notice holds."""

    release: Identifier
    status: ReleaseStatus
    ts: Milliseconds
    location: str
    """The release's folder, under the releases folder every process shares."""
    manifest_sha256: str
    parent: str | None = None
    reason: str | None = None
    gate: dict[str, float] = {}


class UserState(Struct, frozen=True, kw_only=True, array_like=True, tag=1):
    """What the ranker keeps of a user, saved. Topic `user-state`, key `user_id`; a tombstone forgets the user.

    MessagePack, an array whose first element is the format's version. A later format gets a struct and a tag of its
    own, and this one stays to be read. Arrays are little-endian bytes; an item is its 64-bit stable hash (0: none).
    """

    next_offset: int
    """Holds every event of the user before this offset of the partition, and none after."""
    encoded_by: str | None
    """The release that made `recurrent` [S] and `vector` [d], float32; None: they are to be made from the history."""
    recurrent: bytes
    vector: bytes
    observed: int
    """Events entered in the history, ever; the newest are kept, oldest first."""
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
    """None: no slate was shown."""
    seen: int
    """Events told apart by their ids, ever; hashes of the newest ids are kept, oldest first."""
    recent_events: bytes
    """uint64"""


class Epoch(Struct, frozen=True, array_like=True):
    """From an offset of a partition on, its events are ranked by a release."""

    offset: int
    release: str


class StateMarker(Struct, frozen=True, kw_only=True, array_like=True, tag=1):
    """How far a partition's saved states go. Topic `user-state`, the empty key, which no user has."""

    offset: int
    """Every event before this offset is in its user's saved state; later ones may be, see `UserState.next_offset`."""
    rankings_offset: int
    """The rankings of the events from `offset` on stand at this offset of `rankings` or behind it."""
    epochs: list[Epoch]
    """Who ranked the events from `offset` on, oldest first; those before the first epoch were never ranked."""


Message = TypeVar("Message")
_encoder = msgspec.json.Encoder()
_binary_encoder = msgspec.msgpack.Encoder()
STATE_MARKER_KEY = b""


def encode(message: Struct) -> bytes:
    """Any message of this module as JSON bytes."""
    return _encoder.encode(message)


def encode_binary(message: UserState | StateMarker) -> bytes:
    """A message of `user-state` as MessagePack bytes."""
    return _binary_encoder.encode(message)


class Codec(Generic[Message]):
    """Decodes one topic's messages; build it once, it holds the compiled schema."""

    def __init__(self, schema: type[Message], binary: bool = False) -> None:
        self._decoder: msgspec.json.Decoder[Message] | msgspec.msgpack.Decoder[Message] = (
            msgspec.msgpack.Decoder(schema) if binary else msgspec.json.Decoder(schema)
        )

    def decode(self, payload: bytes) -> Message:
        """Raises `InvalidMessage`, naming the field, on anything but a valid message."""
        try:
            return self._decoder.decode(payload)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise InvalidMessage(str(error), payload) from error


events: Codec[Event] = Codec(Event)
items: Codec[Item] = Codec(Item)
item_vectors: Codec[ItemVector | Coverage] = Codec(ItemVector | Coverage)  # type: ignore[arg-type]
rankings: Codec[Ranking] = Codec(Ranking)
feedback: Codec[Feedback] = Codec(Feedback)
neighbours: Codec[Neighbours] = Codec(Neighbours)
releases: Codec[ReleaseNotice] = Codec(ReleaseNotice)
user_states: Codec[UserState] = Codec(UserState, binary=True)
state_markers: Codec[StateMarker] = Codec(StateMarker, binary=True)

TOPIC_SCHEMAS: dict[str, object] = {
    "events": Event,
    "items": Item,
    "item-vectors": ItemVector | Coverage,
    "rankings": Ranking,
    "feedback": Feedback,
    "neighbours": Neighbours,
    "releases": ReleaseNotice,
}
"""What travels on each topic, for the JSON Schemas; `user-state` is binary, dead letters are as they came."""
