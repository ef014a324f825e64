"""What clients ask, decoded and validated, and what they are answered."""

from __future__ import annotations

from dataclasses import dataclass

from msgspec import Struct

from anabranch.http.messages.serving import (
    ALL_ITEMS,
    AnsweredItem,
    ItemConditions,
    PreviewAnswer,
    RecentEvent,
    UserAnswer,
)
from anabranch.messages import Rule


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


class ItemsAnswer(Struct, frozen=True):
    """Items, best first."""

    items: list[AnsweredItem]
    release: str
    """The one that ranked."""
    is_known: bool
    """Whether there are events of the user."""
    as_of: int | None = None
    """Time of the user's newest event, in milliseconds, those of the request among them; None: there is none."""


Answer = ItemsAnswer | UserAnswer | PreviewAnswer
