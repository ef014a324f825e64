"""Requests and answers of the serving API, as its server and `anabranch.client` have them."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from msgspec import Meta, Struct

from anabranch.event_types import EventType
from anabranch.field_types import Category, Identifier, Milliseconds
from anabranch.messages import LARGEST_PRICE, Event, Rule

MAX_ITEMS = 200
"""Items of an answer, and those before them that an offset leaves out."""
MAX_EVENTS = 200
MAX_NAMED_ITEMS = 1_000

LEVELS = " > "
"""Between the names of a category path in a parameter."""
DEFAULT_LIMIT = 20
MAX_TRIED = 20
"""Rules of a preview."""
NOBODY = "nobody"

Limit = Annotated[int, Meta(ge=1, le=MAX_ITEMS)]
Offset = Annotated[int, Meta(ge=0, le=MAX_ITEMS)]
Names = Annotated[tuple[Annotated[str, Meta(min_length=1, max_length=512)], ...], Meta(max_length=50)]
NamedItems = Annotated[tuple[Identifier, ...], Meta(max_length=MAX_NAMED_ITEMS)]
Source = Literal["own_events", "co_visits", "popularity", "index", "new", "rules", "request"]
Price = Annotated[float, Meta(ge=-LARGEST_PRICE, le=LARGEST_PRICE)]
Values = Annotated[tuple[Annotated[str, Meta(min_length=1, max_length=1024)], ...], Meta(max_length=50)]


class ItemConditions(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which items an answer may have. An empty condition lets all items through."""

    categories: Annotated[tuple[Category, ...], Meta(max_length=50)] = ()
    """Of one of these category paths, or below it."""
    brands: Names = ()
    domains: Names = ()
    price_from: Price | None = None
    price_below: Price | None = None
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


class ConditionParameters(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Conditions in a query string; a name may be repeated: an item meets one of its values."""

    limit: Annotated[Limit, Meta(description="How many items.")] = DEFAULT_LIMIT
    category: Annotated[Values, Meta(description="A path such as `FOOD > SOUP`: items of it or below it.")] = ()
    brand: Annotated[Values, Meta(description="Items of this brand.")] = ()
    domain: Annotated[Values, Meta(description="Items of this domain.")] = ()
    price_from: Annotated[Price, Meta(description="The item's price is at least this.")] | None = None
    price_below: Annotated[Price, Meta(description="The item's price is lower than this.")] | None = None
    exclude: Annotated[NamedItems, Meta(description="Not this item.")] = ()

    @property
    def conditions(self) -> ItemConditions:
        """As queries have them."""
        return ItemConditions(
            categories=tuple(path.split(LEVELS) for path in self.category),
            brands=self.brand,
            domains=self.domain,
            price_from=self.price_from,
            price_below=self.price_below,
            exclude=self.exclude,
        )

    @classmethod
    def of(cls, conditions: ItemConditions, **others: Any) -> Self:
        """The inverse of `conditions`, with `others`. Raises `ValueError` for a category that no parameter can name."""
        if any(LEVELS in name for path in conditions.categories for name in path):
            raise ValueError(f"a category has {LEVELS!r} in its name: give the conditions in a body")
        return cls(
            category=tuple(LEVELS.join(path) for path in conditions.categories),
            brand=conditions.brands,
            domain=conditions.domains,
            price_from=conditions.price_from,
            price_below=conditions.price_below,
            exclude=conditions.exclude,
            **others,
        )


class SlateParameters(ConditionParameters, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Of a user's slate."""

    placement: Annotated[str, Meta(description="Its name; the first one by default.")] | None = None
    offset: Annotated[Offset, Meta(description="So many of the best items are left out.")] = 0
    explain: Annotated[bool, Meta(description="Whether each item has its reasons.")] = False


class StreamParameters(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Of a stream of a user's slates."""

    placement: str | None = None
    """Its name; the first of `placements` by default."""
    limit: Limit = DEFAULT_LIMIT
    """Items of a slate, at most."""


class SlateBody(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of `POST /v1/recommendations`."""

    user_id: Identifier | None = None
    events: Annotated[tuple[RecentEvent, ...], Meta(max_length=MAX_EVENTS)] = ()
    placement: str | None = None
    limit: Limit = DEFAULT_LIMIT
    offset: Offset = 0
    conditions: ItemConditions = ItemConditions()
    explain: bool = False
    """Whether each item has its reasons."""


class RankBody(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of `POST /v1/rank`."""

    items: Annotated[tuple[Identifier, ...], Meta(min_length=1, max_length=MAX_NAMED_ITEMS)]
    user_id: Identifier | None = None
    events: Annotated[tuple[RecentEvent, ...], Meta(max_length=MAX_EVENTS)] = ()


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


class RankedItems(Struct, frozen=True, kw_only=True):
    """What every answer with items has."""

    ranking_id: str
    """Of this answer. Events that follow it repeat it."""
    is_known: bool
    """Whether there are events of the user."""
    as_of: int | None
    """Time of the user's newest event, in milliseconds, those of the request among them; None: there is none."""
    release: str
    """The one that ranked."""
    freshness_ms: int
    """0: every event that was fetched is applied. Else the age of the newest one that is, where most of them wait."""
    items: list[AnsweredItem]
    """The best first."""


class SlateAnswer(RankedItems, frozen=True, kw_only=True):
    """A user's slate of a placement."""

    user_id: str | None
    """None: a guest."""
    placement: str


class StreamedSlate(Struct, frozen=True, kw_only=True):
    """A server-sent event of a stream of slates."""

    event: Literal["slate"]
    id: str
    """The `ranking_id`."""
    data: str
    """JSON: a `SlateAnswer`."""


class RankAnswer(RankedItems, frozen=True, kw_only=True):
    """The items that a request named, in the user's order."""

    user_id: str | None
    """None: a guest."""


class RelatedItemsAnswer(RankedItems, frozen=True, kw_only=True):
    """Items that go with an item."""

    item_id: str


class TrendingAnswer(RankedItems, frozen=True, kw_only=True):
    """The items that are popular now."""


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


class RulesAnswer(Struct, frozen=True, kw_only=True):
    """The answer to `GET /v1/rules`."""

    rules: list[Rule]
    """All rules, in the order of their ids."""
    holding: list[str]
    """The ids of those whose time span has this moment."""


class PreviewBody(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of `POST /v1/rules/preview`."""

    user_id: Identifier
    """Whose slates are previewed."""
    rules: Annotated[tuple[Rule, ...], Meta(min_length=1, max_length=MAX_TRIED)]
    """As if they held now, each in place of one with its id."""
