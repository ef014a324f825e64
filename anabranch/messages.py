"""The wire schema: the messages on every topic. Most are JSON; `user-state` is MessagePack.

Unknown fields are ignored, so that a producer may be newer than a consumer. A message that its schema rejects raises
`InvalidMessage`. Every field has a bound, so that the cost of a message is proportional to its length. Messages that
are made per event are not tracked by the garbage collector (`gc=False`): they never are part of a reference cycle.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal

from msgspec import Meta, Struct

from anabranch.codec import REASON_LENGTH as REASON_LENGTH
from anabranch.codec import BinaryCodec as BinaryCodec
from anabranch.codec import Codec as Codec
from anabranch.codec import InvalidMessage as InvalidMessage
from anabranch.codec import Message as Message
from anabranch.codec import encode as encode
from anabranch.codec import encode_binary as encode_binary
from anabranch.codec import shortened as shortened
from anabranch.event_types import EVENT_TYPES as EVENT_TYPES
from anabranch.event_types import NO_INTEREST
from anabranch.event_types import EventType as EventType
from anabranch.field_types import NO_CONTROL_CHARACTER as NO_CONTROL_CHARACTER
from anabranch.field_types import Category as Category
from anabranch.field_types import Identifier as Identifier
from anabranch.field_types import Milliseconds as Milliseconds
from anabranch.followed_ranking import FollowedRanking as FollowedRanking
from anabranch.placements import FOR_YOU, PlacementName
from anabranch.rules import Rule as Rule
from anabranch.rules import RuleChange as RuleChange
from anabranch.state_messages import NEWEST_MARKER_FORMAT as NEWEST_MARKER_FORMAT
from anabranch.state_messages import NEWEST_STATE_FORMAT as NEWEST_STATE_FORMAT
from anabranch.state_messages import STATE_MARKER_KEY as STATE_MARKER_KEY
from anabranch.state_messages import Epoch as Epoch
from anabranch.state_messages import LongTermItems as LongTermItems
from anabranch.state_messages import Rebase as Rebase
from anabranch.state_messages import SavedState as SavedState
from anabranch.state_messages import StateMarker as StateMarker
from anabranch.state_messages import UserState as UserState
from anabranch.state_messages import UserStateV1 as UserStateV1

EventIdentifier = Annotated[
    str, Meta(min_length=1, max_length=512, extra_json_schema={"pattern": NO_CONTROL_CHARACTER})
]
"""As `Identifier`, but `Event` checks the pattern itself, in a fifth of the time: restarts read millions of events."""
UNKNOWN_REPEAT_RATE = 0.2
"""Repeat rate of an item without data: one user in five comes back to it."""

EXPLORED_POOL = 25
"""Candidates for each explored place of a slate: every one of them is shown with the same probability, 1 in so many."""

ReleaseStatus = Literal["candidate", "shadow", "live", "retired", "rejected"]

DeadLetterCategory = Literal["empty", "invalid", "wrong_key", "too_large", "unreadable"]
"""A metric has these as labels, so there are few of them; a dead letter's header `reason` gives the details."""

LARGEST_FLOAT = 3.4e38
"""Largest float32, rounded down."""
LARGEST_PRICE = 1e12
LARGEST_QUANTITY = 1e9


class Event(Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """An action of a user, or what the user was shown (an impression). Topic `events`, key `user_id`."""

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
    shown: Annotated[tuple[EventIdentifier, ...], Meta(max_length=200)] = ()
    """The items of an impression, in the order of the page."""
    rating: Annotated[float, Meta(ge=-1, le=1)] | None = None
    """Of a `rating`: -1 the worst, 1 the best. Above 0 it shows interest; below 0 it is a dislike."""
    quantity: Annotated[float, Meta(ge=0, le=LARGEST_QUANTITY)] | None = None
    """How much of the item. Like the next two, it is for other consumers of `events`, and of `feedback`."""
    price: Annotated[float, Meta(ge=-LARGEST_PRICE, le=LARGEST_PRICE)] | None = None
    """Of one unit, in the shop's currency."""
    order_id: EventIdentifier | None = None
    """All events of one order have the same."""
    ranking_id: EventIdentifier | None = None
    """The ranking that the user followed: of an answer of the API, or as the shop names it."""

    @property
    def is_action(self) -> bool:
        """Whether the user did something. An impression is what the shop did: no model learns from it."""
        return self.type != "impression"

    @property
    def item_of_interest(self) -> str | None:
        """The item in which the user shows interest; None for most searches, and where the user shows none."""
        if self.type in NO_INTEREST or (self.type == "rating" and (self.rating or 0) <= 0):
            return None
        return self.item_id

    @property
    def disliked_item(self) -> str | None:
        """The item that the user does not want to see again."""
        is_bad_rating = self.type == "rating" and (self.rating or 0) < 0
        return self.item_id if is_bad_rating or self.type == "dislike" else None

    @property
    def search_query(self) -> str | None:
        """The text that the user searched for; None if the event is no search."""
        return self.query if self.type == "search" else None

    def __post_init__(self) -> None:
        if not (
            f"{self.event_id}{self.user_id}{self.item_id}{self.session_id}{self.domain}{self.order_id}{self.ranking_id}"
        ).isprintable():
            _refuse_control_characters(self, _IDS_OF_EVENT)
        if self.shown and any(map(_CONTROL_CHARACTER.search, self.shown)):
            raise ValueError("`shown` contains a control character")
        if self.type == "impression":
            self._check_shown()
        elif self.type == "search" and self.query is None:
            raise ValueError("a `search` event needs `query`")
        elif self.type != "search" and self.item_id is None:
            raise ValueError(f"a `{self.type}` event needs `item_id`")
        elif self.type == "rating" and self.rating is None:
            raise ValueError("a `rating` event needs `rating`, from -1 to 1")

    def _check_shown(self) -> None:
        if self.item_id is not None or not self.shown:
            raise ValueError("an `impression` event has its items in `shown`, and no `item_id`")


class Identity(Struct, frozen=True, kw_only=True):
    """The user whom an anonymous id turned out to be. Topic `identities`, key the anonymous id; the newest record
    counts, and a tombstone removes it. No process of Anabranch reads it."""

    user_id: Identifier
    ts: Milliseconds
    """When the shop learned it."""


class Item(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An item that can be ranked. Topic `items`, key `item_id`; a tombstone (null value) removes it."""

    item_id: Identifier
    title: Annotated[str, Meta(max_length=4096)]
    description: Annotated[str, Meta(max_length=65_536)] | None = None
    brand: Annotated[str, Meta(max_length=512)] | None = None
    category: Category = []
    """Category path, the broadest first, such as ["GROCERY", "SOUP"]."""
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
    """Vectors of other modalities, such as images: name → floats."""


class ItemVector(Struct, frozen=True, kw_only=True, omit_defaults=True, tag="vector"):
    """The vector of an item in a release, and what rankers need to know of the item. Topic `item-vectors`, key
    `item_id` + release; a tombstone removes it."""

    item_id: Identifier
    release: Identifier
    vector: bytes
    """float32 [dims of the release], little-endian."""
    available: bool = True
    category: Category = []
    """As the item has it, like the next three: rules choose items by them."""
    brand: Annotated[str, Meta(max_length=512)] | None = None
    domain: Identifier | None = None
    price: float | None = None


class IndexingComplete(Struct, frozen=True, kw_only=True, tag="coverage"):
    """The indexer has published the vectors of the whole catalogue for a release. Topic `item-vectors`, key release.

    A ranker swaps to the release once it has read every partition of the topic up to the end that the partition had
    when this message was read. `items` is the number of vectors, for information.
    """

    release: Identifier
    items: int
    ts: Milliseconds


class RankedItem(Struct, frozen=True, array_like=True, gc=False):
    """An item of a slate; `[item_id, score]` on the wire."""

    item_id: str
    score: float


class Cause(Struct, frozen=True, kw_only=True, gc=False):
    """The event that caused a ranking, and its position in the topic `events`."""

    event_id: str
    partition: int
    offset: int
    ts: Milliseconds


class Ranking(Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """The slates of a user after an event. Topic `rankings`, key `user_id`."""

    user_id: str
    release: str
    cause: Cause
    slate: list[RankedItem]
    """That of the first placement."""
    ts: Milliseconds
    """When the ranker computed it."""
    purchase: list[float] | None = None
    """Probability, 0 to 1, that the user buys each item of the slate; only with `publish_purchase`."""
    explored: Annotated[int, Meta(ge=0)] = 0
    """So many of the last places were drawn at random, each from `EXPLORED_POOL` candidates: the next best, and with
    `explore_new_items` some new items. 0 without `explore_places`. The items before them are the best ones, as without
    exploration."""
    placement: PlacementName = FOR_YOU.name
    """The first placement."""
    slates: dict[str, list[RankedItem]] = {}
    """Those of the other placements, by name."""

    @property
    def by_placement(self) -> dict[str, list[RankedItem]]:
        """The slate of every placement, the first one first."""
        return {self.placement: self.slate, **self.slates}

    def explored_at(self, placement: str) -> int:
        """How many places of a placement's slate were explored."""
        return self.explored if placement == self.placement else 0

    def propensity(self, rank: int | None) -> float | None:
        """Probability with which the item at a rank, from 1, was put there; None without a rank or explored places."""
        if rank is None or self.explored == 0:
            return None
        return 1 / EXPLORED_POOL if rank > len(self.slate) - self.explored else 1.0


class Feedback(Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """An event joined with the user's slate at that time. Topic `feedback`, key `user_id`."""

    event: Event
    partition: int
    offset: int
    release: str | None = None
    """The release that ranked the slate; None: the user had no slate."""
    slate_size: int = 0
    rank: int | None = None
    """Rank of the event's item on the slate of the first placement, from 1; None: it was not on it."""
    propensity: Annotated[float, Meta(gt=0, le=1)] | None = None
    """Probability with which the event's item was put on the slate: 1 / `EXPLORED_POOL` at an explored place, 1 at
    the others. None: it was not on the slate, the slate has no explored place, or the event followed an answer."""
    placement: PlacementName = FOR_YOU.name
    """The first placement."""
    ranks: dict[str, int] = {}
    """Rank of the event's item, from 1, on the slates of the other placements that had it, by name."""
    followed: FollowedRanking | None = None
    """The answer of the API that the event followed; what is above is of the slates that were published."""


class Neighbours(Struct, frozen=True, kw_only=True):
    """The items co-visited with an item, strongest first. Topic `neighbours`, key `item_id`."""

    item_id: Identifier
    neighbours: list[RankedItem]
    """Score: the neighbour's share of the item's co-visits, 0 to 1."""
    popularity: float
    """The item's share of the decayed event count of all items, 0 to 1."""
    first_seen: Milliseconds
    """Time of the first event about the item."""
    repeat_rate: float = UNKNOWN_REPEAT_RATE
    """Share of the item's users with a second event about it, 0 to 1."""
    ts: Milliseconds


class ReleaseNotice(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A change of a release's status. Topic `releases`, key the release id; the newest notice counts."""

    release: Identifier
    status: ReleaseStatus
    ts: Milliseconds
    location: str
    """The release's folder, relative to `releases_dir`, which all processes share."""
    manifest_sha256: str
    parent: str | None = None
    reason: str | None = None
    gate: dict[str, float] = {}
    gate_from: Milliseconds | None = None
    gate_to: Milliseconds | None = None
    """The gate used the events from `gate_from` to before `gate_to` for this release, and must not use them again."""


class ReplayProgress(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How far a replay came. Topic `replays`, key `dead-letters/<partition>` or `file/<file id>`."""

    next: Annotated[int, Meta(ge=0)]
    """The first dead letter that has not been replayed, by its offset; or how many events of the file were published,
    those of every round counted."""
    ts: Milliseconds
    topic_id: str = ""
    """Of the topic `events` to which the file was published; empty: not known, or dead letters."""


events: Codec[Event] = Codec(Event, foreign=True)
identities: Codec[Identity] = Codec(Identity)
items: Codec[Item] = Codec(Item, foreign=True)
item_vectors: Codec[ItemVector | IndexingComplete] = Codec(ItemVector | IndexingComplete)  # type: ignore[arg-type]
rankings: Codec[Ranking] = Codec(Ranking)
feedback: Codec[Feedback] = Codec(Feedback)
neighbours: Codec[Neighbours] = Codec(Neighbours)
releases: Codec[ReleaseNotice] = Codec(ReleaseNotice)
replays: Codec[ReplayProgress] = Codec(ReplayProgress)
rules: Codec[Rule] = Codec(Rule, foreign=True)
rule_changes: Codec[RuleChange] = Codec(RuleChange)
user_states: BinaryCodec[SavedState] = BinaryCodec(SavedState)  # type: ignore[arg-type]
state_markers: BinaryCodec[StateMarker] = BinaryCodec(StateMarker)

TOPIC_SCHEMAS: dict[str, object] = {
    "events": Event,
    "identities": Identity,
    "items": Item,
    "item-vectors": ItemVector | IndexingComplete,
    "rankings": Ranking,
    "feedback": Feedback,
    "neighbours": Neighbours,
    "releases": ReleaseNotice,
    "replays": ReplayProgress,
    "rules": Rule,
    "rule-changes": RuleChange,
}
"""Topic → messages, for the JSON Schemas. `user-state` is binary, and dead letters keep their original bytes."""

_IDS_OF_EVENT = ("event_id", "user_id", "item_id", "session_id", "domain", "order_id", "ranking_id")
_CONTROL_CHARACTER = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def _refuse_control_characters(message: Struct, names: tuple[str, ...]) -> None:
    for name in names:
        if _CONTROL_CHARACTER.search(getattr(message, name) or ""):
            raise ValueError(f"`{name}` contains a control character")
