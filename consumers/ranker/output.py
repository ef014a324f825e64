"""The output of a ranked batch: one ranking and one feedback per event."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from anabranch.kafka import topics
from anabranch.kafka.records import OutboundRecord
from anabranch.kafka.topics import Topics
from anabranch.messages import Cause, Feedback, RankedItem, Ranking, encode
from anabranch.ranking.pipeline.feedback import NO_PROPENSITY, NO_SLATE
from anabranch.ranking.pipeline.rank import RankingResult
from anabranch.ranking.ranking_id import followed_ranking
from anabranch.ranking.vocabulary import ItemVocabulary, ReleaseNumbers
from consumers.runtime.decoding import DecodedEvent

SCORE_DECIMALS = 5
"""A float32 in full would double the message; nobody ranks by the sixth decimal."""


class OutputBuilder:
    """Turns ranked batches into records."""

    def __init__(
        self, topics: Topics, items: ItemVocabulary, releases: ReleaseNumbers, placements: Sequence[str]
    ) -> None:
        """`placements` are the names of those that are ranked for, the first one first."""
        self._topics = topics
        self._items = items
        self._releases = releases
        self._placement, *self._further_placements = placements

    def records(
        self, events: Sequence[DecodedEvent], result: RankingResult | None, release: str, ranked_at_ms: int
    ) -> Iterator[OutboundRecord]:
        """Rankings and feedback in the order of the events; nothing for a duplicate, and no ranking without a slate.

        They go to the partition of the event, so that the records of a user stay together whatever partitioner the
        producer of the event used.
        """
        if result is None:
            return
        slates, purchases, has_slate = self._slates(result), _purchases(result), result.ranked.tolist()
        further = self._further_slates(result)
        explored, duplicate = result.explored.tolist(), result.duplicate.tolist()
        columns = result.feedback
        feedback = zip(
            columns.ranks.tolist(),
            columns.shown_release.tolist(),
            columns.shown_size.tolist(),
            columns.propensity.tolist(),
            strict=True,
        )
        for index, ((rank, *further_ranks), shown_release, shown_size, propensity) in enumerate(feedback):
            if duplicate[index]:
                continue
            event, partition, offset, _ = events[index]
            key = topics.key(event.user_id)
            if has_slate[index]:
                ranking = Ranking(
                    user_id=event.user_id,
                    release=release,
                    cause=Cause(event_id=event.event_id, partition=partition, offset=offset, ts=event.ts),
                    slate=slates[index],
                    ts=ranked_at_ms,
                    purchase=purchases[index] if purchases is not None else None,
                    explored=explored[index],
                    placement=self._placement,
                    slates=further[index],
                )
                yield OutboundRecord(self._topics.rankings, key, encode(ranking), partition)
            followed = followed_ranking(event)
            joined = Feedback(
                event=event,
                partition=partition,
                offset=offset,
                release=None if rank == NO_SLATE else self._releases.id(shown_release),
                slate_size=shown_size,
                rank=rank if rank > 0 else None,
                # Where an answer of the API was followed, nobody knows whether the published slate was shown.
                propensity=None if followed or propensity == NO_PROPENSITY else propensity,
                placement=self._placement,
                ranks=_on_slates(self._further_placements, further_ranks),
                followed=followed,
            )
            yield OutboundRecord(self._topics.feedback, key, encode(joined), partition)

    def _slates(self, result: RankingResult, placement: int = 0) -> list[list[RankedItem]]:
        """The slates of one placement, by its number."""
        slates = result.slates[:, placement]
        scores = np.round(result.scores[:, placement].astype(np.float64), SCORE_DECIMALS).tolist()
        sizes = (slates >= 0).sum(axis=1).tolist()  # what is empty stands at the end
        return [
            list(map(RankedItem, self._items.ids(rows[:size]), row_scores))
            for rows, row_scores, size in zip(slates.tolist(), scores, sizes, strict=True)
        ]

    def _further_slates(self, result: RankingResult) -> list[dict[str, list[RankedItem]]]:
        """The slates of the placements after the first, by name, for each event."""
        slates = {name: self._slates(result, number) for number, name in enumerate(self._further_placements, start=1)}
        return [{name: slates[name][index] for name in slates} for index in range(len(result.slates))]


def _purchases(result: RankingResult) -> list[list[float]] | None:
    """Purchase probabilities beside each slate; None where none were asked for, or the release has no such head."""
    if result.purchase is None:
        return None
    rounded = np.round(result.purchase.astype(np.float64), SCORE_DECIMALS)
    return [row[on_slate].tolist() for row, on_slate in zip(rounded, result.slate >= 0, strict=True)]


def _on_slates(placements: Sequence[str], ranks: Sequence[int]) -> dict[str, int]:
    """The ranks on the slates that had the item, by placement."""
    return {placement: rank for placement, rank in zip(placements, ranks, strict=True) if rank > 0}
