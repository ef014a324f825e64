"""Reasons in words, with the names of items."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime

from msgspec import Struct

from anabranch.inspection.user_ranking import UserRanking
from anabranch.ranking.reasons.explain import Near, Neighbour, OwnEvents, Popular, Reason, Source
from anabranch.ranking.reasons.rules_about import rules_about
from anabranch.ranking.rules.rule_book import NumberedRule


class ToldReason(Struct, frozen=True):
    """Why an item stands on a slate."""

    item_id: str
    title: str
    score: float
    because: list[str]
    """What brought it, and which rules moved it."""
    base: float
    """The mean score of the candidates."""
    contributions: dict[str, float]
    """To the score, by group of features. With `base` and `by_rules` they add up to it, but for rounding."""
    by_rules: float
    """What rules add to the score."""


RESTS = "it rests: the user was shown it often enough, and there are no others"
Reasons = Mapping[str, Sequence[Reason]]
"""By placement."""


def reasons_by_placement(ranking: UserRanking, rules: Sequence[NumberedRule]) -> dict[str, list[Reason]]:
    """The reasons of every slate of a ranking with these rules."""
    explained = ranking.with_rules(rules)
    return {name: explained.reasons(number) for number, name in enumerate(ranking.placements)}


def mentioned_items(ranking: UserRanking, reasons: Reasons) -> set[str]:
    """Ids of the items that the reasons name, whose titles `tell` is to know."""
    of_slates = [reason for of_placement in reasons.values() for reason in of_placement]
    rows = {reason.item for reason in of_slates}
    rows |= {source.of for reason in of_slates for source in reason.sources if isinstance(source, Neighbour)}
    return set(ranking.item_ids.ids(rows))


def tell(
    ranking: UserRanking, reasons: Reasons, rules: Sequence[NumberedRule], titles: Mapping[str, str]
) -> dict[str, list[ToldReason]]:
    """The reasons of each placement's slate, in words."""
    return {
        name: [
            ToldReason(
                item_id=ranking.item_ids.id(reason.item),
                title=titles.get(ranking.item_ids.id(reason.item), ""),
                score=reason.score,
                because=[
                    *(_told(source, ranking, titles) for source in reason.sources),
                    *_moved_by(reason.item, name, ranking, rules),
                    *([RESTS] if reason.rests else []),
                ],
                base=reason.base,
                contributions=reason.contributions,
                by_rules=reason.by_rules,
            )
            for reason in of_placement
        ]
        for name, of_placement in reasons.items()
    }


def _told(source: Source, ranking: UserRanking, titles: Mapping[str, str]) -> str:
    match source:
        case OwnEvents(count, newest_s):
            return f"the user's own: {count} {'event' if count == 1 else 'events'}, the newest on {_day(newest_s)}"
        case Neighbour(of, since_s, share):
            item_id = ranking.item_ids.label(of)
            name = titles.get(item_id, item_id)
            return f"visited with {name} ({share:.0%} of its co-visits), which the user had on {_day(since_s)}"
        case Near(place):
            return f"number {place} of the index for the user's vector"
        case Popular():
            return "one of the most popular items"


def _moved_by(item: int, placement: str, ranking: UserRanking, rules: Sequence[NumberedRule]) -> Iterator[str]:
    for rule in rules_about(item, placement, rules, ranking.live.index):
        factor = "" if rule.factor is None else f" by {rule.factor:g}"
        at = "" if rule.position is None else f" from place {rule.position} on"
        yield f"rule {rule.rule_id}: {rule.action}{factor}{at}"


def _day(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d")
