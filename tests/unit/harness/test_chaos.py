"""What chaos draws, whether its stream holds what it says, and by which release it compares states."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

from kafka.consumer.fetcher import ConsumerRecord

from anabranch.harness.chaos.faults import draw_faults
from anabranch.harness.chaos.reference import ReferenceRun, ReleaseSet, restore_states
from anabranch.harness.chaos.slate_comparison import count_score_pairs
from anabranch.harness.chaos.stream import generate_messages
from anabranch.messages import Event, UserState
from anabranch.ranking.event_batch import EventBatch
from anabranch.ranking.pipeline.user_update import replay
from anabranch.ranking.retrieval.co_visit_table import CoVisitRows
from anabranch.ranking.user_state.codec import save
from anabranch.ranking.vocabulary import ItemVocabulary, ReleaseNumbers
from anabranch.settings import DEFAULTS, Settings
from consumers.runtime.decoding import DecodedEvent, decode_events
from producers import completejourney
from tests.support.layouts import LAYOUT
from tests.support.releases import live_release, write_release


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


def test_a_state_that_a_recovery_left_to_be_encoded_is_that_of_an_uninterrupted_run_to_the_live_release(
    tmp_path: Path,
) -> None:
    """Another ranker may still have been ranking with the release before it, last of all."""
    catalogue, item_ids, numbers = [f"item {n}" for n in range(20)], ItemVocabulary(), ReleaseNumbers()
    for seed, name in enumerate(("r1", "r2")):
        write_release(tmp_path / name, name, catalogue, seed)
    live = {name: live_release(tmp_path / name, item_ids, catalogue, numbers.number(name)) for name in ("r1", "r2")}
    releases = ReleaseSet(live, CoVisitRows(), item_ids, numbers, DEFAULTS, serving="r2")
    events = [
        Event(event_id=f"e{n}", user_id="ann", type="view", ts=1_700 * n, item_id=catalogue[n % 7]) for n in range(9)
    ]
    uninterrupted = ReferenceRun(releases, LAYOUT)
    uninterrupted.replay([DecodedEvent(event, 0, n, event.ts) for n, event in enumerate(events)], lambda event: "r1")

    recovered = releases.empty_states(LAYOUT)
    slots = recovered.slots(["ann"])
    replay(recovered, EventBatch.from_events(events, slots.repeat(len(events)), item_ids))
    saved = dict(zip(["ann"], save(recovered, slots, item_ids, numbers), strict=True))

    def encoded(state: UserState) -> tuple[bytes, bytes]:
        return state.recurrent, state.vector

    expected = encoded(uninterrupted.final_states()["ann"])
    assert encoded(restore_states(saved, releases, LAYOUT)["ann"]) == expected
    of_the_last = replace(releases, serving="r1")
    assert encoded(restore_states(saved, of_the_last, LAYOUT)["ann"]) != expected
