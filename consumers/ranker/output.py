"""What a ranked batch says: one ranking and one feedback an event."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from anabranch.kafka import topics
from anabranch.kafka.topics import Topics
from anabranch.messages import Cause, Feedback, RankedItem, Ranking, encode
from anabranch.ranking.pipeline.rank import NO_SLATE, Ranked
from anabranch.ranking.vocabulary import ItemIds, ReleaseNumbers
from consumers.runtime.decoding import Received
from consumers.runtime.outbound import Outgoing

SCORE_DECIMALS = 5
"""A float32 in full would double the message; nobody ranks by the sixth decimal."""


class Outcome:
    """Turns ranked batches into messages."""

    def __init__(self, names: Topics, item_ids: ItemIds, releases: ReleaseNumbers) -> None:
        self._names = names
        self._item_ids = item_ids
        self._releases = releases

    def messages(self, received: Sequence[Received], ranked: Ranked, release: str, now_ms: int) -> Iterator[Outgoing]:
        """Rankings and feedback, in the order of the events; none for a duplicate, and no ranking where none was made.

        They go to the partition of the event, so that a user's messages stay together whoever chose it.
        """
        slates, shown = self._slates(ranked), ranked.shown_release.tolist()
        made, sizes, ranks = ranked.ranked.tolist(), ranked.shown_size.tolist(), ranked.rank.tolist()
        purchases = _purchases(ranked)
        for at in np.flatnonzero(~ranked.duplicate).tolist():
            event, partition, offset, _ = received[at]
            key = topics.key(event.user_id)
            if made[at]:
                ranking = Ranking(
                    user_id=event.user_id,
                    release=release,
                    cause=Cause(event_id=event.event_id, partition=partition, offset=offset, ts=event.ts),
                    slate=slates[at],
                    ts=now_ms,
                    purchase=purchases[at] if purchases is not None else None,
                )
                yield Outgoing(self._names.rankings, key, encode(ranking), partition)
            feedback = Feedback(
                event=event,
                partition=partition,
                offset=offset,
                release=None if ranks[at] == NO_SLATE else self._releases.id(shown[at]),
                slate_size=sizes[at],
                rank=ranks[at] if ranks[at] > 0 else None,
            )
            yield Outgoing(self._names.feedback, key, encode(feedback), partition)

    def _slates(self, ranked: Ranked) -> list[list[RankedItem]]:
        scores = np.round(ranked.score.astype(np.float64), SCORE_DECIMALS).tolist()
        shown = (ranked.slate >= 0).sum(axis=1).tolist()  # what is not stands at the end
        return [
            list(map(RankedItem, self._item_ids.ids(rows[:n]), of_rows))
            for rows, of_rows, n in zip(ranked.slate.tolist(), scores, shown, strict=True)
        ]


def _purchases(ranked: Ranked) -> list[list[float]] | None:
    """Probabilities of a purchase beside each slate; None where none were asked for, or the release tells none."""
    if ranked.purchase is None:
        return None
    rounded = np.round(ranked.purchase.astype(np.float64), SCORE_DECIMALS)
    return [row[shown].tolist() for row, shown in zip(rounded, ranked.slate >= 0, strict=True)]
