"""What clients ask, decoded and validated, and what they are answered."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from msgspec import Meta, Struct

from anabranch.event_types import EventType
from anabranch.field_types import Category, Identifier, Milliseconds
from anabranch.messages import Event, Rule

MAX_ITEMS = 200
"""Items of an answer, and those before them that an offset leaves out."""
MAX_EVENTS = 200
MAX_NAMED_ITEMS = 1_000

NOBODY = "nobody"

Limit = Annotated[int, Meta(ge=1, le=MAX_ITEMS)]
Offset = Annotated[int, Meta(ge=0, le=MAX_ITEMS)]
Names = Annotated[tuple[Annotated[str, Meta(min_length=1, max_length=512)], ...], Meta(max_length=50)]
NamedItems = Annotated[tuple[Identifier, ...], Meta(max_length=MAX_NAMED_ITEMS)]
Source = Literal["own_events", "co_visits", "popularity", "index", "new", "rules", "request"]


class ItemConditions(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which items an answer may have. An empty condition lets all items through."""

    categories: Annotated[tuple[Category, ...], Meta(max_length=50)] = ()
    """Of one of these category paths, or below it."""
    brands: Names = ()
    domains: Names = ()
    price_from: float | None = None
    price_below: float | None = None
    exclude: NamedItems = ()
    """Not these items."""

    @property
    def is_empty(self) -> bool:
        """Whether every item meets them."""
        return self == ALL_ITEMS


ALL_ITEMS = ItemConditions()


class RecentEvent(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An event that only this request knows of: a guest's, or what is in a cart. Nothing of it is stored."""

    type: EventType = "view"
    item_id: Identifier | None = None
    query: Annotated[str, Meta(min_length=1, max_length=4096)] | None = None
    rating: Annotated[float, Meta(ge=-1, le=1)] | None = None
    session_id: Identifier | None = None
    """None: it belongs to the session of the user's newest event, unless that was half an hour ago."""
    ts: Milliseconds | None = None
    """None: now. A time that is yet to come counts as now."""

    def __post_init__(self) -> None:
        self.as_event("checked", now_ms=0)

    def as_event(self, event_id: str, now_ms: int) -> Event:
        """The event of nobody. Raises `ValueError` if a field is missing that its type needs."""
        return Event(
            event_id=event_id,
            user_id=NOBODY,
            type=self.type,
            item_id=self.item_id,
            query=self.query,
            rating=self.rating,
            session_id=self.session_id,
            ts=now_ms if self.ts is None else self.ts,
        )


@dataclass(frozen=True)
class SlateQuery:
    """A user's slate."""

    user_id: str | None
    """None: a guest, who has the `events` alone."""
    placement: str
    limit: int
    offset: int = 0
    conditions: ItemConditions = ALL_ITEMS
    events: tuple[RecentEvent, ...] = ()
    explain: bool = False
    """Whether the items are answered with their reasons."""


@dataclass(frozen=True)
class RankQuery:
    """Items in a user's order."""

    user_id: str | None
    item_ids: tuple[str, ...]
    events: tuple[RecentEvent, ...] = ()


@dataclass(frozen=True)
class SimilarQuery:
    """The items nearest to an item."""

    item_id: str
    limit: int
    conditions: ItemConditions = ALL_ITEMS


@dataclass(frozen=True)
class BoughtTogetherQuery:
    """The items that users take together with an item."""

    item_id: str
    limit: int
    conditions: ItemConditions = ALL_ITEMS


@dataclass(frozen=True)
class TrendingQuery:
    """The items that are popular now."""

    limit: int
    conditions: ItemConditions = ALL_ITEMS


@dataclass(frozen=True)
class UserQuery:
    """What is known of a user."""

    user_id: str


@dataclass(frozen=True)
class PreviewQuery:
    """A user's slates without and with some rules."""

    user_id: str
    tried: tuple[Rule, ...]


Query = PreviewQuery | SlateQuery | RankQuery | SimilarQuery | BoughtTogetherQuery | TrendingQuery | UserQuery


class ReasonedSource(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What brought an item to a slate."""

    source: Source
    count: int | None = None
    """Of `own_events`: how many events the user had about the item."""
    item_id: str | None = None
    """Of `co_visits`: the item among the user's newest ones that brings it most."""
    share: float | None = None
    """Of `co_visits`: the item's share of that item's co-visits, 0 to 1."""
    ts: int | None = None
    """Milliseconds: of `own_events` when the user's newest event about the item was, of `co_visits` that about
    `item_id`."""
    position: int | None = None
    """Of `index`: the item's position among what the index finds for the user, from 1."""


class ItemReasons(Struct, frozen=True, kw_only=True):
    """Why an item stands where it stands. `base`, `contributions` and `by_rules` add up to the score."""

    sources: list[ReasonedSource]
    """All that brought it."""
    base: float
    """The mean score of the user's candidates."""
    contributions: dict[str, float]
    """Of groups of features."""
    by_rules: float
    """What rules add."""
    rules: list[str]
    """The ids of the rules that hold for the item."""
    rests: bool
    """Whether the user was shown it often enough, so that it stands behind all others."""


class AnsweredItem(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An item of an answer."""

    item_id: str
    score: float | None = None
    """Comparable within the answer alone; None: it was not ranked."""
    source: Source | None = None
    """What proposed it: the first that holds, in the order of `Source`."""
    reasons: ItemReasons | None = None
    """If the request asked for them."""


class ItemsAnswer(Struct, frozen=True):
    """Items, best first."""

    items: list[AnsweredItem]
    release: str
    """The one that ranked."""
    is_known: bool
    """Whether there are events of the user."""
    as_of: int | None = None
    """Time of the user's newest event, in milliseconds, those of the request among them; None: there is none."""


class KnownEvent(Struct, frozen=True, kw_only=True):
    """An event in a user's history."""

    item_id: str
    """`#` and 16 hexadecimal digits, the hash of its id, for an item that is in no catalogue."""
    type: str
    """As encoders read it: types that they do not know count as views."""
    ts: int
    """Milliseconds, to the second."""


class UserAnswer(Struct, frozen=True, kw_only=True):
    """All that user states have of a user, but for numbers that only models read."""

    user_id: str
    is_known: bool
    history: list[KnownEvent] = []
    """The newest first."""
    long_term_items: list[str] = []
    """Of events before those."""
    disliked: list[str] = []
    last_event_ts: int | None = None


class PreviewAnswer(Struct, frozen=True, kw_only=True):
    """Slates of a user, by placement, as item ids, best first."""

    user_id: str
    is_known: bool
    """Whether there are events of the user."""
    release: str
    """The one that ranked."""
    before: dict[str, list[str]]
    """With the rules that hold."""
    after: dict[str, list[str]]
    """With the tried rules, too."""


Answer = ItemsAnswer | UserAnswer | PreviewAnswer
