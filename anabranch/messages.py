"""The wire schema: every message on every topic, as JSON, decoded to types at the edge.

Unknown fields are ignored, so a producer may be newer than its reader. Whatever is no valid message raises
`InvalidMessage`, which names the field or the problem and keeps the original bytes for the dead letter. Every field
has a bound, so that no message costs more than its length. Those that go with every event are kept from the garbage
collector: a message is a tree, and never part of a cycle.
"""

from __future__ import annotations

import json
import re
from typing import Annotated, Any, Generic, Literal, TypeVar

import msgspec
from msgspec import Meta, Struct

EVENT_TYPES = ("view", "cart", "purchase", "search")
"""Position in this tuple is the event type's number in `step.onnx`."""

EventType = Literal["view", "cart", "purchase", "search"]
NO_CONTROL_CHARACTER = r"^(?![\s\S]*[\u0000-\u001f\u007f-\u009f])"
"""An id goes into keys, logs and terminals, and U+001F stands between the parts of a key."""
Identifier = Annotated[str, Meta(min_length=1, max_length=512, pattern=NO_CONTROL_CHARACTER)]
EventIdentifier = Annotated[
    str, Meta(min_length=1, max_length=512, extra_json_schema={"pattern": NO_CONTROL_CHARACTER})
]
"""The same, but `Event` itself sees to the pattern, at a fifth of the cost: a restart decodes events by the million."""
Milliseconds = Annotated[int, Meta(ge=0, le=253_402_300_799_999, description="UTC, milliseconds since 1970")]
"""Up to the year 9999: a time stamp in microseconds is told at once, not ranked as the far future."""

UNKNOWN_REPEAT_RATE = 0.2
"""What is assumed of an item before anything is known of it: one user in five comes back to it."""

ReleaseStatus = Literal["candidate", "shadow", "live", "retired", "rejected"]

REASON_LENGTH = 400
"""Characters of a reason: it travels as a header, and may quote what came."""
NESTING = 100
"""How deep arrays and objects may stand in one another: far below where Python's stack ends, which is not always
at the same depth, so that an event is read alike wherever it is read."""
LARGEST_FLOAT = 3.4e38
"""What a float32 holds."""


class InvalidMessage(ValueError):
    """A message that its schema rejects: `reason` names the field, `payload` holds the bytes as they came.

    The reason is cut to `REASON_LENGTH` characters.
    """

    def __init__(self, reason: str, payload: bytes) -> None:
        self.reason = shortened(reason)
        self.payload = payload
        super().__init__(self.reason)


def shortened(reason: str) -> str:
    """A reason in at most `REASON_LENGTH` characters."""
    return reason if len(reason) <= REASON_LENGTH else f"{reason[: REASON_LENGTH - 1]}…"


class Event(Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """One thing a user did. Topic `events`, key `user_id`."""

    event_id: EventIdentifier
    user_id: EventIdentifier
    type: EventType
    ts: Milliseconds
    item_id: EventIdentifier | None = None
    query: Annotated[str, Meta(min_length=1, max_length=4096)] | None = None
    session_id: EventIdentifier | None = None
    domain: EventIdentifier | None = None
    context: Annotated[
        dict[Annotated[str, Meta(max_length=128)], Annotated[str, Meta(max_length=4096)]], Meta(max_length=64)
    ] = {}

    def __post_init__(self) -> None:
        if not f"{self.event_id}{self.user_id}{self.item_id}{self.session_id}{self.domain}".isprintable():
            _refuse_control_characters(self, ("event_id", "user_id", "item_id", "session_id", "domain"))
        if self.type == "search" and self.query is None:
            raise ValueError("a `search` event needs `query`")
        if self.type != "search" and self.item_id is None:
            raise ValueError(f"a `{self.type}` event needs `item_id`")


class Item(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One thing that can be ranked. Topic `items`, key `item_id`; a tombstone (null value) removes it."""

    item_id: Identifier
    title: Annotated[str, Meta(max_length=4096)]
    description: Annotated[str, Meta(max_length=65_536)] | None = None
    brand: Annotated[str, Meta(max_length=512)] | None = None
    category: Annotated[list[Annotated[str, Meta(max_length=512)]], Meta(max_length=32)] = []
    """Path from the widest to the narrowest, such as ["GROCERY", "SOUP"]."""
    price: float | None = None
    available: bool = True
    domain: Identifier | None = None
    vectors: Annotated[
        dict[
            Annotated[str, Meta(max_length=128)],
            Annotated[list[Annotated[float, Meta(ge=-LARGEST_FLOAT, le=LARGEST_FLOAT)]], Meta(max_length=16_384)],
        ],
        Meta(max_length=16),
    ] = {}
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


class RankedItem(Struct, frozen=True, array_like=True, gc=False):
    """One place of a slate: `[item_id, score]` on the wire."""

    item_id: str
    score: float


class Cause(Struct, frozen=True, kw_only=True, gc=False):
    """The event that caused a ranking, and where it stands in the log."""

    event_id: str
    partition: int
    offset: int
    ts: Milliseconds


class Ranking(Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """The slate a user would see now. Topic `rankings`, key `user_id`."""

    user_id: str
    release: str
    cause: Cause
    slate: list[RankedItem]
    ts: Milliseconds
    """When the ranker made it."""
    purchase: list[float] | None = None
    """Probability that the user buys each item of the slate, 0 to 1; only where asked for and the release can tell."""


class Feedback(Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
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
    gate_from: Milliseconds | None = None
    gate_to: Milliseconds | None = None
    """Events from `gate_from` on and before `gate_to` have been at the gate for it, and so can be for no other."""


class UserState(Struct, frozen=True, kw_only=True, array_like=True, tag=2):
    """What the ranker keeps of a user, saved. Topic `user-state`, key `user_id`; a tombstone forgets the user.

    MessagePack, an array whose first element is the format's version. A later format gets a struct and a tag of its
    own, and this one stays to be read. Arrays are little-endian bytes; an item is its 64-bit stable hash (0: none).
    """

    next_offset: int
    """Holds every event of the user before this offset of the partition, and none after."""
    encoded_by: str | None
    """The release that made `recurrent` [S] and `vector` [d], float16; None: they are to be made from the history."""
    recurrent: bytes
    vector: bytes
    observed: int
    """Events entered in the history, ever; the newest are kept, oldest first."""
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
    """uint64, the user's items of before the history"""
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
    """None: no slate was shown."""
    seen: int
    """Events told apart by their ids, ever; hashes of the newest ids are kept, oldest first."""
    recent_events: bytes
    """uint64"""


class UserStateV1(Struct, frozen=True, kw_only=True, array_like=True, tag=1):
    """As `UserState`, from before its own items left out those of the history; it is read and written no more."""

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


SavedState = UserState | UserStateV1
"""What the topic holds of a user: `ranking.saved_state` makes the first of either."""


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
    """Decodes one topic's messages; build it once, it holds the compiled schema.

    `foreign` messages are written by others, who may give a field twice: readers would then differ in which they
    take, so it is an error.
    """

    def __init__(self, schema: type[Message], foreign: bool = False) -> None:
        self._decoder = msgspec.json.Decoder(schema)
        self._once: frozenset[str] = frozenset(getattr(schema, "__struct_fields__", ())) if foreign else frozenset()

    def decode(self, payload: bytes) -> Message:
        """Raises `InvalidMessage`, naming the field or the problem, on anything but a valid message."""
        try:
            payload.decode()  # all of it: msgspec does not look into fields it passes over
            if len(payload) > 2 * NESTING:
                _refuse_nesting(payload)
            message = self._decoder.decode(payload)
            if self._once and _may_repeat(payload, message):
                _refuse_repetition(payload, self._once)
        except (msgspec.DecodeError, ValueError, RecursionError) as error:
            raise InvalidMessage(str(error), payload) from error
        return message


class BinaryCodec(Generic[Message]):
    """As `Codec`, for a topic of the ranker's own in MessagePack."""

    def __init__(self, schema: type[Message]) -> None:
        self._decoder = msgspec.msgpack.Decoder(schema)

    def decode(self, payload: bytes) -> Message:
        """Raises `InvalidMessage` on anything but a valid message."""
        try:
            return self._decoder.decode(payload)
        except msgspec.DecodeError as error:
            raise InvalidMessage(str(error), payload) from error


events: Codec[Event] = Codec(Event, foreign=True)
items: Codec[Item] = Codec(Item, foreign=True)
item_vectors: Codec[ItemVector | Coverage] = Codec(ItemVector | Coverage)  # type: ignore[arg-type]
rankings: Codec[Ranking] = Codec(Ranking)
feedback: Codec[Feedback] = Codec(Feedback)
neighbours: Codec[Neighbours] = Codec(Neighbours)
releases: Codec[ReleaseNotice] = Codec(ReleaseNotice)
user_states: BinaryCodec[SavedState] = BinaryCodec(SavedState)  # type: ignore[arg-type]
state_markers: BinaryCodec[StateMarker] = BinaryCodec(StateMarker)

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

_CONTROL_CHARACTER = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_STRING = re.compile(rb'"(?:[^"\\]|\\.)*+"?', re.DOTALL)
_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_OBJECTS_AS_PAIRS = json.JSONDecoder(object_pairs_hook=tuple, parse_int=str, parse_float=str)
"""Nothing else tells a name that stands twice. Numbers stay text, for Python refuses to read very long ones."""


def _refuse_control_characters(message: Struct, names: tuple[str, ...]) -> None:
    for name in names:
        if _CONTROL_CHARACTER.search(getattr(message, name) or ""):
            raise ValueError(f"`{name}` holds a control character")


def _refuse_nesting(payload: bytes) -> None:
    if payload.count(b"[") + payload.count(b"{") <= NESTING:
        return
    depth = 0
    for bracket in _STRING.sub(b"", payload).translate(None, _NO_BRACKETS):
        depth += 1 if bracket in b"[{" else -1
        if depth > NESTING:
            raise ValueError(f"arrays and objects stand more than {NESTING} deep in one another")


def _may_repeat(payload: bytes, message: Any) -> bool:
    """Whether there may be more in the payload than the message says once: each name comes with a colon."""
    once = _encoder.encode(message)
    return payload != once and (b"\\" in payload or payload.count(b":") != once.count(b":"))


def _refuse_repetition(payload: bytes, names: frozenset[str]) -> None:
    """Look for a name that stands twice, among the fields that are read and in the objects they hold."""
    read = [(name, value) for name, value in _OBJECTS_AS_PAIRS.decode(payload.decode()) if name in names]
    for pairs in (read, *(value for _, value in read if isinstance(value, tuple))):
        seen: set[str] = set()
        for name, _ in pairs:
            if name in seen:
                raise ValueError(f"`{name}` stands there twice")
            seen.add(name)
