"""Rules: what merchandisers say about where items stand, whatever the release thinks of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Annotated, Literal

from msgspec import Meta, Struct

from anabranch.errors import UsageError
from anabranch.field_types import Category, Identifier, Milliseconds
from anabranch.placements import PlacementName

Action = Literal["pin", "boost", "bury", "hide"]
MOST_ITEMS = 1000
"""That one rule names. Each pinned item is a candidate of every ranking; other actions cost the same for any number."""
MOST_PINNED = 20
Name = Annotated[str, Meta(min_length=1, max_length=512)]
Price = Annotated[float, Meta(ge=0)]


class Rule(Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """A rule. Topic `rules`, key `rule_id`; a tombstone removes it.

    It is about the items that meet all of its conditions: of a condition with several values, an item meets any one.
    Unknown fields are refused, unlike in other messages: without a condition that this version does not know, a rule
    would be about more items than it says.
    """

    rule_id: Identifier
    action: Action
    """pin: its items stand at `position` and after it, in their order, wherever the placement may show them.
    boost: they are ordered as if they were `factor` times as likely to be taken.
    bury: they stand after all others.
    hide: they are not shown.
    hide goes before pin, and pin before the others; boosts of one item multiply."""
    items: Annotated[list[Identifier], Meta(max_length=MOST_ITEMS)] = []
    brands: Annotated[list[Name], Meta(max_length=MOST_ITEMS)] = []
    categories: Annotated[list[Annotated[Category, Meta(min_length=1)]], Meta(max_length=MOST_ITEMS)] = []
    """Category paths, the broadest name first; the categories below them are included."""
    domains: Annotated[list[Identifier], Meta(max_length=MOST_ITEMS)] = []
    price_from: Price | None = None
    price_below: Price | None = None
    placements: Annotated[list[PlacementName], Meta(max_length=8)] = []
    """Where it holds; everywhere if none is named."""
    position: Annotated[int, Meta(ge=1, le=1000)] | None = None
    """Of `pin`, from 1."""
    factor: Annotated[float, Meta(ge=0.001, le=1000)] | None = None
    """Of `boost`; below 1 it lowers."""
    starts: Milliseconds | None = None
    """From when on it holds, by the rankers' clocks."""
    ends: Milliseconds | None = None
    """Before when."""
    note: Annotated[str, Meta(max_length=4096)] = ""
    """Why."""

    def __post_init__(self) -> None:
        for problem in _problems(self):
            raise ValueError(problem)

    def holds_at(self, now_ms: int) -> bool:
        """Whether its time span has the moment (UTC ms)."""
        return (self.starts is None or self.starts <= now_ms) and (self.ends is None or now_ms < self.ends)

    def holds_on(self, placement: str) -> bool:
        """Whether it holds on the placement of this name."""
        return not self.placements or placement in self.placements


class RuleChange(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Who changed a rule, when, from what to what. Topic `rule-changes`, key `rule_id`; in one transaction with the
    rule."""

    rule_id: Identifier
    by: Annotated[str, Meta(min_length=1, max_length=512)]
    ts: Milliseconds
    before: Rule | None = None
    """None: there was no such rule."""
    after: Rule | None = None
    """None: it was removed."""


def require_placements(rules: Iterable[Rule], placements: Sequence[str]) -> None:
    """Raise `UsageError` for a rule that holds on a placement whose name is not among these."""
    for rule in rules:
        unknown = [name for name in rule.placements if name not in placements]
        if unknown:
            raise UsageError(
                f"rule {rule.rule_id}: there is no placement {', '.join(unknown)}; the setting `placements` has "
                f"{', '.join(placements)}"
            )


def _problems(rule: Rule) -> Iterator[str]:
    """What is wrong with a rule whose fields are valid alone, each with its remedy."""
    by_attribute = bool(rule.brands or rule.categories or rule.domains)
    by_price = rule.price_from is not None or rule.price_below is not None
    if not (rule.items or by_attribute or by_price):
        yield "a rule has a condition: items, brands, categories, domains, price_from or price_below"
    if rule.action == "pin" and (by_attribute or by_price or not rule.items):
        yield "`pin` needs `items`, and has no other condition"
    if rule.action == "pin" and len(rule.items) > MOST_PINNED:
        yield f"`pin` has at most {MOST_PINNED} items"
    if (rule.action == "pin") != (rule.position is not None):
        yield "`position` belongs to `pin`, which needs it"
    if (rule.action == "boost") != (rule.factor is not None):
        yield "`factor` belongs to `boost`, which needs it"
    if rule.starts is not None and rule.ends is not None and rule.starts >= rule.ends:
        yield "`ends` must be later than `starts`"
    if rule.price_from is not None and rule.price_below is not None and rule.price_from >= rule.price_below:
        yield "`price_below` must be higher than `price_from`"
