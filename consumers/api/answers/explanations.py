"""The reasons of the items of an answer, by the code of `anabranch inspect ranking`."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import structs

from anabranch.http.messages.serving import AnsweredItem, ItemReasons, ReasonedSource
from anabranch.ranking.reasons.explain import ExplainedRanking, Near, Neighbour, OwnEvents, Popular, Reason, Source
from anabranch.ranking.reasons.rules_about import rules_about
from anabranch.ranking.vocabulary import ItemVocabulary
from consumers.releases.serving_model import ServingModel


class Explanations:
    """Explains items of a user's slate."""

    def __init__(self, model: ServingModel, items: ItemVocabulary) -> None:
        self._model = model
        self._items = items

    def with_reasons(
        self, answered: Sequence[AnsweredItem], ranking: ExplainedRanking, placement: int
    ) -> list[AnsweredItem]:
        """The same items, which the ranking put on the slate of the placement of this number, with their reasons."""
        rows = self._items.find(item.item_id for item in answered)
        reasons = ranking.reasons_of(placement, rows)
        name = ranking.policy.placement_names[placement]
        return [
            structs.replace(item, reasons=self._told(reason, item, name))
            for item, reason in zip(answered, reasons, strict=True)
        ]

    def _told(self, reason: Reason, item: AnsweredItem, placement: str) -> ItemReasons:
        sources = [self._source(source) for source in reason.sources]
        if not sources and item.source is not None:  # a rule or the request alone brought it
            sources = [ReasonedSource(source=item.source)]
        rules = rules_about(reason.item, placement, self._model.holding_rules, self._model.required_live.index)
        return ItemReasons(
            sources=sources,
            base=reason.base,
            contributions=reason.contributions,
            by_rules=reason.by_rules,
            rules=[rule.rule_id for rule in rules],
            rests=reason.rests,
        )

    def _source(self, source: Source) -> ReasonedSource:
        match source:
            case OwnEvents(count, newest_s):
                return ReasonedSource(source="own_events", count=count, ts=1000 * newest_s)
            case Neighbour(of, since_s, share):
                return ReasonedSource(source="co_visits", item_id=self._items.label(of), share=share, ts=1000 * since_s)
            case Near(place):
                return ReasonedSource(source="index", position=place)
            case Popular():
                return ReasonedSource(source="popularity")
