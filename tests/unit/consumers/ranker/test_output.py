from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from anabranch import messages
from anabranch.kafka.records import OutboundRecord
from anabranch.kafka.topics import Topics
from anabranch.messages import Event, FollowedRanking, Ranking
from anabranch.ranking.pipeline.feedback import NO_PROPENSITY, NO_SLATE, NOT_ON_SLATE, FeedbackColumns
from anabranch.ranking.pipeline.rank import RankingResult
from anabranch.ranking.ranking_id import Answered, ranking_id
from anabranch.ranking.vocabulary import ItemVocabulary, ReleaseNumbers
from anabranch.settings import Settings
from consumers.ranker.output import OutputBuilder
from consumers.runtime.decoding import DecodedEvent

RANKED = RankingResult(
    duplicate=np.array([False, True, False]),
    unknown_item=np.zeros(3, np.bool_),
    ranked=np.array([True, False, True]),
    slates=np.array([[[0, 1]], [[0, 1]], [[1, -1]]], np.int32),
    scores=np.array([[[2, 1]], [[2, 1]], [[3, 0]]], np.float32),
    explored=np.zeros(3, np.uint8),
    explored_new=np.zeros(3, np.uint8),
    resting=np.zeros(3, np.int32),
    feedback=FeedbackColumns(
        shown_release=np.full(3, -1, np.int32),
        shown_size=np.zeros(3, np.int32),
        ranks=np.full((3, 1), NO_SLATE, np.int32),
        propensity=np.full(3, NO_PROPENSITY),
    ),
)


def published(
    ranked: RankingResult, placements: Sequence[str] = ("for_you",), ranking_id: str | None = None
) -> list[OutboundRecord]:
    """The records for three events, the second of which is a duplicate."""
    item_ids = ItemVocabulary()
    item_ids.rows(["a", "b"])
    events = [
        Event(event_id=f"e{n}", user_id="u", type="view", ts=n, item_id="a", ranking_id=ranking_id) for n in range(3)
    ]
    received = [DecodedEvent(event, 0, offset, -1) for offset, event in enumerate(events)]
    releases = ReleaseNumbers()
    releases.number("r0")
    builder = OutputBuilder(Topics(Settings()), item_ids, releases, placements)
    return list(builder.records(received, ranked, "r1", 5))


def rankings(ranked: RankingResult, placements: Sequence[str] = ("for_you",)) -> list[Ranking]:
    """The rankings among these records."""
    return [
        messages.rankings.decode(record.value)
        for record in published(ranked, placements)
        if record.topic == "rankings" and record.value
    ]


def test_an_event_without_a_slate_gets_feedback_only() -> None:
    latest = replace(RANKED, ranked=np.array([False, False, True]))
    assert [record.topic for record in published(latest)] == ["feedback", "rankings", "feedback"]


def test_a_ranking_without_purchase_probabilities_omits_them() -> None:
    first, second = rankings(RANKED)
    assert (first.cause.event_id, second.cause.event_id) == ("e0", "e2")
    assert (first.purchase, second.purchase) == (None, None)
    assert b"purchase" not in messages.encode(first)


def test_a_ranking_gives_the_purchase_probability_of_each_item_of_its_slate() -> None:
    purchase = np.array([[0.25, 0.125], [0.5, 0.5], [0.75, 0]], np.float32)
    first, second = rankings(replace(RANKED, purchase=purchase))
    assert [item.item_id for item in first.slate] == ["a", "b"]
    assert first.purchase == [0.25, 0.125]
    assert [item.item_id for item in second.slate] == ["b"]
    assert second.purchase == [0.75]


@pytest.mark.parametrize("probability", [0.0, 1e-9, 1 - 1e-7, 1.0])
def test_a_published_probability_is_between_0_and_1(probability: float) -> None:
    for ranking in rankings(replace(RANKED, purchase=np.full((3, 2), probability, np.float32))):
        assert ranking.purchase is not None
        assert all(0 <= item_probability <= 1 for item_probability in ranking.purchase)


def test_a_ranking_has_the_slates_of_further_placements_by_name_and_feedback_the_ranks_on_them() -> None:
    slates = np.array([[[0, 1], [1, -1]], [[0, 1], [0, 1]], [[1, -1], [-1, -1]]], np.int32)
    ranks = np.array([[NO_SLATE, NO_SLATE], [NO_SLATE, NO_SLATE], [NOT_ON_SLATE, 2]], np.int32)
    feedback = RANKED.feedback._replace(ranks=ranks, shown_release=np.array([-1, -1, 0], np.int32))
    result = replace(RANKED, slates=slates, scores=slates.astype(np.float32), feedback=feedback)
    first, second = rankings(result, ("for_you", "discover"))
    assert [item.item_id for item in first.slate] == ["a", "b"]
    assert [item.item_id for item in first.slates["discover"]] == ["b"]
    assert (len(second.slate), second.slates) == (1, {"discover": []})
    records = published(result, ("for_you", "discover"))
    joined = [messages.feedback.decode(record.value or b"") for record in records if record.topic == "feedback"]
    assert [(message.rank, message.ranks) for message in joined] == [(None, {}), (None, {"discover": 2})]


def test_with_one_placement_messages_are_those_that_earlier_versions_wrote() -> None:
    for record in published(RANKED):
        assert b"slates" not in (record.value or b"")
        assert b"ranks" not in (record.value or b"")


def test_feedback_names_the_answer_that_its_event_followed_and_then_has_no_propensity_of_the_published_slate() -> None:
    explored = RANKED.feedback._replace(
        shown_release=np.zeros(3, np.int32), ranks=np.ones((3, 1), np.int32), propensity=np.full(3, 0.04)
    )
    answer = ranking_id(Answered("r9", "for_you", 4, 20, 1), ["b", "a"])
    for echoed, followed, propensity in (
        (answer, FollowedRanking(release="r9", ts=4, placement="for_you", rank=22), None),
        ("the shop's own", None, 0.04),
        (None, None, 0.04),
    ):
        records = published(replace(RANKED, feedback=explored), ranking_id=echoed)
        rows = [
            messages.feedback.decode(record.value) for record in records if record.topic == "feedback" and record.value
        ]
        assert [(row.followed, row.propensity) for row in rows] == [(followed, propensity)] * 2
        assert {(row.release, row.rank) for row in rows} == {("r0", 1)}, "of the published slate, as always"
