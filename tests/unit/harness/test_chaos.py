"""What chaos draws, and whether its stream holds what it says."""

from __future__ import annotations

from collections import Counter

from kafka.consumer.fetcher import ConsumerRecord

from anabranch.harness.chaos.faults import draw_faults
from anabranch.harness.chaos.slate_comparison import count_score_pairs
from anabranch.harness.chaos.stream import generate_messages
from anabranch.settings import Settings
from consumers.runtime.decoding import decode_events
from producers import completejourney


def test_the_same_seed_draws_the_same_faults() -> None:
    assert draw_faults(3, 60, 20, 3, 3, 6.0) == draw_faults(3, 60, 20, 3, 3, 6.0)
    assert draw_faults(3, 60, 20, 3, 3, 6.0) != draw_faults(4, 60, 20, 3, 3, 6.0)


def test_as_many_kills_are_drawn_as_asked_for_and_pauses_that_outlast_the_session() -> None:
    faults = draw_faults(0, 60, 20, 3, 3, 6.0)
    counts = Counter(fault.kind for fault in faults)
    assert counts["kill ranker"] + counts["kill broker"] == 20
    assert counts["kill broker"] == 6
    assert all(fault.duration_s > 6.0 for fault in faults if fault.kind == "pause ranker")
    assert [fault.start_s for fault in faults] == sorted(fault.start_s for fault in faults)


def test_the_stream_has_duplicates_searches_and_poison_of_every_kind() -> None:
    purchases = completejourney.purchases(0, (1, 3)).of_households(60, 0)
    titles = dict.fromkeys(purchases.bought(), "a title")
    stream = list(generate_messages(purchases, titles, random_seed=0))
    records = [
        ConsumerRecord("events", 0, 0, offset, 0, 1, message.key, message.value, message.headers, None, 0, 0, 0)
        for offset, message in enumerate(stream)
    ]
    received, dead = decode_events(records, Settings().max_message_bytes)
    ids = Counter(event.event.event_id for event in received)
    assert sum(count - 1 for count in ids.values()) > 0.02 * len(purchases)
    assert sum(event.event.type == "search" for event in received) > 0.02 * len(purchases)
    assert any(event.event.event_id.startswith("large-") for event in received)
    assert {letter.category for letter in dead} == {"empty", "invalid", "wrong_key", "too_large"}
    assert len({letter.reason[:20] for letter in dead}) >= 6


def test_scores_of_a_slate_are_paired_though_one_more_item_shifts_the_others() -> None:
    scores = [0.9, 0.8, 0.7, 0.6, 0.5]
    assert count_score_pairs(scores, scores) == 5
    assert count_score_pairs(scores, [0.95, 0.9, 0.8, 0.7, 0.6]) == 4
    assert count_score_pairs(scores, [score + 0.0005 for score in scores]) == 5
    assert count_score_pairs(scores, [score + 0.05 for score in scores]) == 0
    assert count_score_pairs([0.5, 0.5, 0.5], [0.5, 0.5]) == 2
