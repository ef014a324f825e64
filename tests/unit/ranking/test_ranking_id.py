"""The ids of answers: what an event that echoes one says of the answer."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anabranch import messages
from anabranch.followed_ranking import FollowedRanking
from anabranch.messages import Event, Feedback
from anabranch.ranking.ranking_id import NUMBER_BITS, Answered, followed_ranking, ranking_id

TS = 1_764_000_000_123
ITEMS = [f"item {number}" for number in range(20)]
ANSWERED = Answered("r0007", "for_you", TS, 0, 1)


def following(ranking_id: str | None, item_id: str = "item 3", **changes: Any) -> Event:
    fields = {"event_id": "e", "user_id": "u", "type": "click", "ts": TS, "item_id": item_id}
    return Event(**(fields | {"ranking_id": ranking_id} | changes))


def test_an_event_that_echoes_an_id_says_what_ranked_its_item_where_and_when() -> None:
    answer = ranking_id(ANSWERED, ITEMS)
    for place, item_id in enumerate(ITEMS, start=1):
        expected = FollowedRanking(release="r0007", ts=TS, placement="for_you", rank=place)
        assert followed_ranking(following(answer, item_id)) == expected


def test_the_places_before_the_first_item_count() -> None:
    followed = followed_ranking(following(ranking_id(ANSWERED._replace(skipped=40), ITEMS)))
    assert followed is not None and followed.rank == 44


def test_an_item_that_was_not_among_them_has_no_rank() -> None:
    answer = ranking_id(ANSWERED._replace(placement=""), ITEMS)
    expected = FollowedRanking(release="r0007", ts=TS)
    assert followed_ranking(following(answer, "another")) == expected
    assert followed_ranking(following(answer, type="dislike")) == expected, "no interest in the item"
    assert followed_ranking(following(ranking_id(ANSWERED, []))) == msgspec.structs.replace(
        expected, placement="for_you"
    )


def test_answers_that_are_alike_in_all_else_have_two_ids() -> None:
    assert len({ranking_id(ANSWERED._replace(number=number), ITEMS) for number in range(100)}) == 100


@pytest.mark.parametrize("release", ["r" * 64, "é" * 32])
def test_an_id_fits_into_an_event_however_many_items_there_are_and_knows_the_first_ones(release: str) -> None:
    many = [f"item {number}" for number in range(1_000)]
    answer = ranking_id(Answered(release, "p" * 64, TS, 70_000, 2**NUMBER_BITS - 1), many)
    event = messages.events.decode(messages.encode(following(answer, many[70])))
    followed = followed_ranking(event)
    assert followed is not None and followed.rank == 0xFFFF + 71
    assert followed_ranking(following(answer, many[-1])) is not None


def test_of_a_release_whose_name_is_too_long_nothing_is_said() -> None:
    assert followed_ranking(following(ranking_id(ANSWERED._replace(release="r" * 65), ITEMS))) is None


@pytest.mark.parametrize("id_of_the_shop", [None, "17", "a1.", "a1.AAAA", "a1.é", "a1.====", "0d2f4d1c9e1b4ef0b0ac0a"])
def test_an_id_of_the_shops_own_is_none_of_ours(id_of_the_shop: str | None) -> None:
    assert followed_ranking(following(id_of_the_shop)) is None


@given(st.data())
def test_whatever_becomes_of_an_id_feedback_can_be_read(data: st.DataObject) -> None:
    answer = ranking_id(ANSWERED, ITEMS)
    start = data.draw(st.integers(0, len(answer)))
    alphabet = st.characters(exclude_categories=["C", "Z"])
    mutated = answer[:start] + data.draw(st.text(alphabet, max_size=4)) + answer[start + data.draw(st.integers(0, 4)) :]
    feedback = Feedback(event=(event := following(mutated)), partition=0, offset=0, followed=followed_ranking(event))
    assert messages.feedback.decode(messages.encode(feedback)) == feedback


def test_a_made_up_id_with_a_time_that_no_event_can_have_is_none_of_ours() -> None:
    assert followed_ranking(following(ranking_id(ANSWERED._replace(ts=2**48 - 1), ITEMS))) is None
