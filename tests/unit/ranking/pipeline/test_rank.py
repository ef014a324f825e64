"""What the ranker's core promises, with real ONNX files and a real FAISS index."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest

from anabranch.event_types import EventType
from anabranch.messages import Event
from anabranch.placements import DISCOVER, FOR_YOU
from anabranch.ranking.event_batch import EventBatch
from anabranch.ranking.pipeline import rank, user_update
from anabranch.ranking.pipeline.best_candidates import BestCandidates, top_k_per_query
from anabranch.ranking.pipeline.feedback import NO_SLATE, NOT_ON_SLATE
from anabranch.ranking.pipeline.rank import MAX_PART_QUERIES, RankingResult
from anabranch.ranking.pipeline.servable import ServableRelease
from anabranch.ranking.policy import Policy
from anabranch.ranking.retrieval.candidates import propose
from anabranch.ranking.retrieval.co_visit_table import CoVisitRows
from anabranch.ranking.rules_in_force import Pins, RulesInForce
from anabranch.ranking.user_state.layout import WEEK_S
from anabranch.ranking.user_state.store import UserStates
from anabranch.ranking.vocabulary import ItemVocabulary
from tests.support.layouts import LAYOUT
from tests.support.releases import DIMS, live_release, write_release

CATALOGUE = [f"item {n}" for n in range(200)]

DEFAULT_POLICY = Policy()


class Shop:
    """A release, states and neighbours to rank events with."""

    def __init__(self, folder: Path, policy: Policy = DEFAULT_POLICY, linear: bool = True) -> None:
        write_release(folder / "r1", "r1", CATALOGUE, linear=linear)
        self.item_ids = ItemVocabulary()
        self.live = live_release(folder / "r1", self.item_ids, CATALOGUE)
        self.neighbours = CoVisitRows()
        self.policy = policy
        self.states = self.blank_states()

    def blank_states(self) -> UserStates:
        return UserStates(LAYOUT._replace(history=8, long_term_items=4, slate=5), DIMS, DIMS)

    def batch(self, events: Sequence[Event]) -> EventBatch:
        return EventBatch.from_events(events, self.states.slots(e.user_id for e in events), self.item_ids)

    def rank(self, *events: Event, live: ServableRelease | None = None) -> RankingResult:
        return rank.rank(live or self.live, self.neighbours, self.states, self.batch(events), self.policy)

    def slate(self, ranked: RankingResult, at: int = -1) -> list[str]:
        return [self.item_ids.id(row) for row in ranked.slate[at] if row >= 0]


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(tmp_path)


def purchase(item: int | str, user: str = "ann", ts: int = 1_000, session: str | None = None, id: str = "") -> Event:
    item_id = f"item {item}" if isinstance(item, int) else item
    return Event(
        event_id=id or f"{user}-{item_id}-{ts}",
        user_id=user,
        type="purchase",
        ts=ts,
        item_id=item_id,
        session_id=session,
    )


def search(query: str, user: str, ts: int) -> Event:
    return Event(event_id=f"{user}-{query}", user_id=user, type="search", ts=ts, query=query)


def _stream(events: int, users: int, seed: int = 0) -> list[Event]:
    rng = np.random.default_rng(seed)
    return [
        purchase(int(rng.integers(200)), f"user {rng.integers(users)}", ts=1_000 * n, session=f"s{n // 20}")
        for n in range(events)
    ]


def test_every_event_gets_a_full_slate_best_first(shop: Shop) -> None:
    ranked = shop.rank(purchase(1), purchase(2, "bob"))
    assert (ranked.slate >= 0).all()
    assert (np.diff(ranked.score, axis=1) <= 0).all()


def test_a_batch_ranks_as_its_events_one_by_one(shop: Shop) -> None:
    events = _stream(120, users=7)
    whole = shop.rank(*events)
    shop.states = shop.blank_states()
    single = [shop.rank(event) for event in events]
    assert np.array_equal(whole.slate, np.concatenate([one.slate for one in single]))
    assert np.array_equal(whole.feedback.rank, np.concatenate([one.feedback.rank for one in single]))
    np.testing.assert_allclose(whole.score, np.concatenate([one.score for one in single]), atol=1e-5)


def test_the_step_encoder_ranks_like_the_recurrent_encoder(tmp_path: Path) -> None:
    events = _stream(120, users=7)
    parts, whole = Shop(tmp_path / "parts"), Shop(tmp_path / "whole", linear=False)
    by_parts, by_step = parts.rank(*events), whole.rank(*events)
    assert (by_parts.slate == by_step.slate).mean() > 0.99, "but for what the last bits of a score decide"
    np.testing.assert_allclose(by_parts.score, by_step.score, atol=2e-3)


def test_an_empty_batch_has_no_slates(shop: Shop) -> None:
    assert shop.rank().slate.shape == (0, 5)
    rank.warm_up(shop.live, shop.policy, LAYOUT)


@pytest.mark.timeout(900)  # half a minute on an idle core: it compiles every loop
@pytest.mark.parametrize("described", [0, 200], ids=["before any item is described", "with a catalogue"])
def test_nothing_is_compiled_after_the_warm_up(tmp_path: Path, described: int) -> None:
    """In a process of its own: a batch that met a type for the first time would wait for the compiler."""
    script = f"""
from pathlib import Path
from tests.unit.ranking.pipeline.test_rank import Shop, _stream, rank, user_update, np, purchase, replace
from anabranch.ranking.rules_in_force import Pins, RulesInForce
from numba.core.event import install_recorder
shop = Shop(Path({str(tmp_path)!r}))
items = shop.live.index
rows = np.flatnonzero(items.columns.known).astype(np.int32)
vectors, available = items.vectors(rows), np.ones(len(rows), np.bool_)
items.remove(rows[{described}:])
items.rebuild()
rank.warm_up(shop.live, shop.policy, shop.states.layout)
with install_recorder("numba:compile") as compiled:
    shop.rank(purchase(1))
    items.upsert(rows, vectors, available)
    shop.rank(purchase(2))
    items.rebuild()
    shop.rank(*_stream(100, users=7))
    shop.rank(*_stream(100, users=7), live=replace(shop.live, number=1))  # from the histories
    pins = {{0: Pins(rows[:1], np.zeros(1, np.int32))}}
    shop.policy = replace(shop.policy, rules=RulesInForce(pins=pins, hidden_everywhere=np.zeros(200, np.bool_)))
    shop.rank(purchase(3))
    user_update.replay(shop.states, shop.batch(_stream(10, users=7)))
    shop.states.snapshot(shop.states.slots(["ann"]))
    shop.states.evict(shop.states.slots(["ann"]))
    shop.states.drop_partition(0)
print(len(compiled.buffer))
"""
    keeping_nothing = {name: value for name, value in os.environ.items() if name != "NUMBA_CACHE_DIR"}
    ran = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, env=keeping_nothing
    )
    assert ran.stdout.split() == ["0"], ran.stderr


def test_ranking_only_each_users_latest_event_changes_no_slate_and_every_event_has_feedback(shop: Shop) -> None:
    events = _stream(60, users=7)
    every = shop.rank(*events[:30]), shop.rank(*events[30:])
    vectors = shop.states.columns.vector.copy()

    shop.states, shop.policy = shop.blank_states(), replace(shop.policy, latest=True)
    first, second = shop.rank(*events[:30]), shop.rank(*events[30:])
    assert np.array_equal(shop.states.columns.vector, vectors), "the states are moved by every event"
    users = [event.user_id for event in events[:30]]
    newest = [at for at in range(30) if users[at] not in users[at + 1 :]]
    assert np.flatnonzero(first.ranked).tolist() == newest
    assert np.array_equal(first.slate[newest], every[0].slate[newest])
    assert (first.slate[~first.ranked] == -1).all()
    assert (first.feedback.rank == NO_SLATE).all(), "nobody had been shown anything before the batch"
    assert (second.feedback.shown_size[np.isin([event.user_id for event in events[30:]], users)] == 5).all()


def test_a_duplicate_is_not_its_users_latest_event(shop: Shop) -> None:
    shop.policy = replace(shop.policy, latest=True)
    ranked = shop.rank(purchase(1, id="a"), purchase(2, id="b"), purchase(1, id="a"))
    assert ranked.duplicate.tolist() == [False, False, True]
    assert ranked.ranked.tolist() == [False, True, False]


def test_parts_ranked_in_parallel_equal_parts_ranked_one_by_one(shop: Shop) -> None:
    events = _stream(3 * MAX_PART_QUERIES, users=50)
    whole = shop.rank(*events)
    shop.states = shop.blank_states()
    with ThreadPoolExecutor(3) as pool:
        beside = rank.rank(shop.live, shop.neighbours, shop.states, shop.batch(events), shop.policy, map_fn=pool.map)
    assert np.array_equal(whole.slate, beside.slate)
    assert np.array_equal(whole.score, beside.score)


@pytest.mark.parametrize("size", [1, 2, 3, 5, 7, 64])
def test_user_vectors_do_not_depend_on_the_batching_of_events(shop: Shop, size: int) -> None:
    events = [*_stream(120, users=50), *(search(f"item {n}", f"user {n}", ts=200_000) for n in range(9))]
    shop.rank(*events)
    users = sorted({event.user_id for event in events})
    whole = shop.states.columns.vector[shop.states.slots(users)]

    shop.states = shop.blank_states()
    for start in range(0, len(events), size):
        shop.rank(*events[start : start + size])
    assert np.array_equal(shop.states.columns.vector[shop.states.slots(users)], whole)


def test_a_replay_with_the_release_that_ranked_gives_the_same_vectors(shop: Shop) -> None:
    events = _stream(120, users=7)
    shop.rank(*events)
    users = sorted({event.user_id for event in events})
    ranked = shop.states.columns.vector[shop.states.slots(users)]

    shop.states = shop.blank_states()
    user_update.replay(shop.states, shop.batch(events), shop.live)
    assert np.array_equal(shop.states.columns.vector[shop.states.slots(users)], ranked)


def test_restoring_a_snapshot_undoes_a_batch(shop: Shop) -> None:
    shop.rank(*_stream(30, users=4))
    slots = shop.states.slots([f"user {n}" for n in range(4)])
    before = shop.states.snapshot(slots)
    shop.rank(*_stream(30, users=4, seed=1))
    shop.states.restore(slots, before)
    assert np.array_equal(shop.states.columns.vector[slots], before.columns.vector)
    assert all(map(np.array_equal, shop.states.snapshot(slots).lists, before.lists))
    shop.rank(*_stream(30, users=4, seed=1))
    assert (shop.states.columns.event_count[slots] > before.columns.event_count).all()


def test_feedback_joins_an_event_with_the_slate_shown_before_it(shop: Shop) -> None:
    first = shop.rank(purchase(1))
    third_on_slate = shop.slate(first)[2]
    second = shop.rank(purchase(third_on_slate, ts=2_000))
    assert first.feedback.rank.tolist() == [NO_SLATE]
    assert second.feedback.rank.tolist() == [3]
    assert second.feedback.shown_size.tolist() == [5]


def test_feedback_joins_within_a_batch(tmp_path: Path) -> None:
    alone, together = Shop(tmp_path / "a"), Shop(tmp_path / "b")
    favourite = alone.slate(alone.rank(purchase(1)))[0]
    ranked = together.rank(purchase(1), purchase(favourite, ts=2_000), purchase("item 199", ts=3_000))
    assert ranked.feedback.rank.tolist()[:2] == [NO_SLATE, 1]
    slate_shown = together.slate(ranked, 1)
    expected = slate_shown.index("item 199") + 1 if "item 199" in slate_shown else NOT_ON_SLATE
    assert ranked.feedback.rank[2] == expected


def test_items_of_the_current_session_are_not_proposed(shop: Shop) -> None:
    favourite = shop.slate(shop.rank(purchase(1, session="s")))[0]
    assert favourite not in shop.slate(shop.rank(purchase(favourite, ts=2_000, session="s")))
    assert "item 1" not in shop.slate(shop.rank(purchase(3, ts=3_000, session="s")))


def test_without_session_ids_half_an_hour_ends_a_session(shop: Shop) -> None:
    shop.rank(purchase(1, ts=0))
    shop.rank(purchase(2, ts=60_000))
    assert shop.states.columns.session_length[0] == 2
    shop.rank(purchase(3, ts=60_000 + 31 * 60_000))
    assert shop.states.columns.session_length[0] == 1


def test_a_policy_that_excludes_seen_items_proposes_none_of_them(tmp_path: Path) -> None:
    shop = Shop(tmp_path, Policy(exclude_seen=True))
    shop.rank(purchase(1, session="a"))
    ranked = shop.rank(purchase(2, ts=2_000, session="b"))
    assert not {"item 1", "item 2"} & set(shop.slate(ranked))


def test_items_of_the_session_are_shown_again_only_if_the_policy_allows_it(tmp_path: Path) -> None:
    for repeats in (False, True):
        shop = Shop(tmp_path / str(repeats), Policy(retrieval_k=0, recent=0, allow_session_repeats=repeats))
        shop.rank(purchase(1, session="a"), purchase(2, ts=2_000, session="a"))
        ranked = shop.rank(purchase(1, ts=3_000, session="a"))
        assert set(shop.slate(ranked)) == ({"item 1", "item 2"} if repeats else set())


def test_a_candidate_has_its_position_and_count_in_the_session(tmp_path: Path) -> None:
    shop = Shop(tmp_path, Policy(allow_session_repeats=True))
    batch = shop.batch([purchase(1, ts=1, session="a"), purchase(2, ts=2, session="a"), purchase(1, ts=3, session="a")])
    snapshots = user_update.update_user_states(shop.live, shop.states, batch).snapshots
    candidates = propose(snapshots, shop.live.index, shop.neighbours, shop.policy, WEEK_S)
    of_last = candidates.query == 2
    out = {
        shop.item_ids.id(item): (at, count)
        for item, at, count in zip(
            candidates.item[of_last].tolist(),
            candidates.session_at[of_last].tolist(),
            candidates.session_count[of_last].tolist(),
            strict=True,
        )
        if at >= 0
    }
    assert out == {"item 1": (0, 2), "item 2": (1, 1)}


def test_items_of_the_history_are_proposed_without_index_and_co_visits(tmp_path: Path) -> None:
    shop = Shop(tmp_path, Policy(retrieval_k=0, recent=0))
    shop.rank(purchase(1, session="a"))
    assert shop.slate(shop.rank(purchase(2, ts=2_000, session="b"))) == ["item 1"]


def test_neighbours_of_recent_items_are_proposed(tmp_path: Path) -> None:
    shop = Shop(tmp_path, Policy(retrieval_k=0))
    rows = shop.item_ids.rows(["item 1", "item 7"])
    shop.neighbours.set(
        int(rows[0]), rows[1:], np.array([0.5], np.float32), popularity=0.1, first_seen=0, repeat_rate=0.2
    )
    assert shop.slate(shop.rank(purchase(1))) == ["item 7"]


def test_a_duplicate_is_marked_and_changes_nothing(shop: Shop) -> None:
    shop.rank(purchase(1, id="once"))
    before = shop.states.columns.event_count.copy(), shop.states.columns.vector.copy()
    ranked = shop.rank(purchase(1, id="once"), purchase(2, "bob"))
    assert ranked.duplicate.tolist() == [True, False]
    assert shop.states.columns.event_count[0] == before[0][0]
    assert np.array_equal(shop.states.columns.vector[0], before[1][0])


def test_a_duplicate_within_a_batch_is_marked(shop: Shop) -> None:
    assert shop.rank(purchase(1, id="x"), purchase(1, id="x")).duplicate.tolist() == [False, True]


def test_a_duplicate_is_marked_only_among_the_last_event_ids(shop: Shop) -> None:
    shop.states = UserStates(LAYOUT._replace(history=8, long_term_items=4, slate=5, recent_events=3), DIMS, DIMS)
    shop.rank(*(purchase(n, id=f"id {n}") for n in range(4)))
    again = shop.rank(purchase(1, id="id 1"), purchase(0, id="id 0"))
    assert again.duplicate.tolist() == [True, False]


def test_an_item_outside_the_catalogue_enters_the_history_but_does_not_change_the_vector(shop: Shop) -> None:
    shop.rank(purchase(1))
    vector = shop.states.columns.vector[0].copy()
    ranked = shop.rank(purchase("nobody described me", ts=2_000))
    assert np.array_equal(shop.states.columns.vector[0], vector)
    assert shop.states.columns.event_count[0] == 2
    assert "nobody described me" not in shop.slate(ranked)


def test_a_search_changes_the_vector_by_its_text(shop: Shop) -> None:
    search = Event(event_id="q", user_id="ann", type="search", ts=1_000, query="item 42")
    shop.rank(search)
    assert shop.states.columns.encoded_by[0] == shop.live.number
    assert np.abs(shop.states.columns.vector[0]).sum() > 0
    assert shop.states.columns.event_count[0] == 0


def test_a_refund_is_ranked_after_and_changes_neither_history_nor_vector(shop: Shop) -> None:
    bought = Event(event_id="p", user_id="ann", type="purchase", ts=1_000, item_id="item 7")
    shop.rank(bought)
    vector = shop.states.columns.vector[0].copy()
    result = shop.rank(msgspec.structs.replace(bought, event_id="r", type="refund", ts=2_000))
    assert result.ranked.tolist() == [True]
    assert (result.slate[0] >= 0).any()
    assert result.unknown_item.tolist() == [False]
    assert np.array_equal(shop.states.columns.vector[0], vector)
    assert shop.states.columns.event_count[0] == 1


@pytest.mark.parametrize("type", ["click", "like", "rating"])
def test_types_that_encoders_do_not_know_move_the_user_as_a_view_does(shop: Shop, type: EventType) -> None:
    view = Event(event_id="v", user_id="ann", type="view", ts=1_000, item_id="item 7")
    shop.rank(view, msgspec.structs.replace(view, user_id="bob", type=type, rating=1.0))
    assert np.array_equal(shop.states.columns.vector[0], shop.states.columns.vector[1])
    assert shop.states.columns.event_count[:2].tolist() == [1, 1]
    before = shop.states.columns.vector[:2].copy()
    user_update.reencode_stale_users(replace(shop.live, number=9), shop.states, np.array([0, 1]))
    np.testing.assert_array_equal(shop.states.columns.vector[:2], before)


@pytest.mark.parametrize("type", ["dislike", "rating"])
def test_what_a_user_dislikes_is_shown_no_more_until_the_user_takes_an_interest_in_it(
    shop: Shop, type: EventType
) -> None:
    [first, second, *_] = shop.slate(shop.rank(purchase(0)))
    dislike = Event(event_id="d", user_id="ann", type=type, ts=1_000, item_id=first, rating=-1.0)
    slate = shop.slate(shop.rank(dislike))
    assert slate[0] == second
    assert first not in slate
    assert first not in shop.slate(shop.rank(msgspec.structs.replace(purchase(1), user_id="ann")))
    assert shop.states.columns.event_count[0] == 2
    liked = msgspec.structs.replace(dislike, event_id="l", type="like")
    shop.rank(liked)
    assert (shop.states.columns.disliked_item[0] == -1).all()


def test_a_disliked_item_is_shown_at_no_placement_no_explored_place_and_not_where_it_is_pinned(tmp_path: Path) -> None:
    policy = Policy(placements=(FOR_YOU, DISCOVER), explore_places=1)
    shop = Shop(tmp_path, policy)
    shop.states = UserStates(LAYOUT._replace(slate=5, placements=policy.placement_names), DIMS, DIMS)
    item = shop.item_ids.row(shop.slate(shop.rank(purchase(0)))[0])
    pins = {number: Pins(np.array([item], np.int32), np.zeros(1, np.int32)) for number in range(2)}
    shop.policy = replace(policy, rules=RulesInForce(pins=pins))
    assert (shop.rank(purchase(1)).slates[0, :, 0] == item).all()
    dislike = Event(event_id="d", user_id="ann", type="dislike", ts=1_000, item_id=shop.item_ids.id(item))
    for n in range(20):
        assert item not in shop.rank(msgspec.structs.replace(dislike, event_id=f"d{n}")).slates


def test_disliking_one_item_after_the_other_leaves_full_slates(tmp_path: Path) -> None:
    shop = Shop(tmp_path, Policy(retrieval_k=10))
    slate = shop.slate(shop.rank(purchase(0)))
    for n in range(LAYOUT.disliked_items):
        dislike = Event(event_id=f"d{n}", user_id="ann", type="dislike", ts=1_000, item_id=slate[0])
        slate = shop.slate(shop.rank(dislike))
        assert len(slate) == 5


def test_a_dislike_behind_a_duplicate_of_another_in_a_batch_counts(shop: Shop) -> None:
    first, second = (
        Event(event_id=f"d{n}", user_id="ann", type="dislike", ts=1_000, item_id=f"item {n}") for n in range(2)
    )
    shop.rank(first, first, second)
    assert [shop.item_ids.id(row) for row in shop.states.columns.disliked_item[0, :2]] == ["item 0", "item 1"]


def test_an_item_that_was_disliked_before_it_was_described_is_still_disliked_when_it_is(shop: Shop) -> None:
    shop.rank(Event(event_id="d", user_id="ann", type="dislike", ts=1_000, item_id="named later"))
    assert shop.states.unnamed_in_use(shop.item_ids.unnamed_end).any()
    row = shop.item_ids.row("named later")
    shop.states.renumber_items(*shop.item_ids.settle())
    assert shop.states.columns.disliked_item[0, 0] == row


def test_the_history_has_types_that_encoders_of_before_read(shop: Shop) -> None:
    for n, type in enumerate(("click", "like", "rating", "cart")):
        shop.rank(Event(event_id=type, user_id="ann", type=type, ts=n, item_id="item 7", rating=1.0))  # type: ignore[arg-type]
    assert shop.states.snapshot(np.array([0])).lists.history_type[0, :4].tolist() == [0, 0, 0, 1]


def test_of_the_items_that_a_user_dislikes_the_newest_are_kept(shop: Shop) -> None:
    size = LAYOUT.disliked_items
    for n, number in enumerate((*range(size + 2), 3)):
        shop.rank(Event(event_id=f"d{n}", user_id="ann", type="dislike", ts=1_000, item_id=f"item {number}"))
    disliked = [shop.item_ids.id(row) for row in shop.states.columns.disliked_item[0]]
    assert disliked == [f"item {number}" for number in (2, *range(4, size + 2), 3)]


def test_a_search_with_an_item_changes_the_vector_by_its_text_and_enters_the_history(shop: Shop) -> None:
    text_alone = Event(event_id="q", user_id="ann", type="search", ts=1_000, query="item 42")
    shop.rank(text_alone, msgspec.structs.replace(text_alone, user_id="bob", item_id="item 7"))
    columns = shop.states.columns
    assert np.array_equal(columns.vector[0], columns.vector[1])
    assert columns.event_count[:2].tolist() == [0, 1]
    assert shop.states.recent_items(np.array([1]), 1).tolist() == [[shop.item_ids.row("item 7")]]


def test_the_query_of_any_other_event_is_ignored(shop: Shop) -> None:
    plain = purchase(1)
    shop.rank(plain, msgspec.structs.replace(plain, user_id="bob", query="item 42"))
    assert np.array_equal(shop.states.columns.vector[0], shop.states.columns.vector[1])


def test_a_late_event_is_applied_and_the_clock_never_runs_backwards(shop: Shop) -> None:
    shop.rank(purchase(1, ts=5_000))
    shop.rank(purchase(2, ts=1_000))
    assert shop.states.columns.last_ts[0] == 5_000
    assert shop.states.columns.event_count[0] == 2


def test_an_event_later_than_its_append_gets_the_time_of_the_append(shop: Shop) -> None:
    ahead = [purchase(1, ts=9_000_000), purchase(2, ts=4_000)]
    batch = EventBatch.from_events(ahead, shop.states.slots(["ann", "ann"]), shop.item_ids, [5_000, 6_000])
    rank.rank(shop.live, shop.neighbours, shop.states, batch, shop.policy)
    assert shop.states.columns.last_ts[0] == 5_000
    assert shop.states.snapshot(np.array([0])).lists.history_s[0, :2].tolist() == [5, 4]


def test_an_event_of_a_clock_that_is_ahead_is_replayed_as_it_was_ranked(shop: Shop) -> None:
    events = [purchase(n, ts=10**9 if n % 2 else n * 1_000) for n in range(1, 8)]
    appended = [n * 1_000 + 7 for n in range(1, 8)]
    batch = EventBatch.from_events(events, shop.states.slots(["ann"] * 7), shop.item_ids, appended)
    rank.rank(shop.live, shop.neighbours, shop.states, batch, shop.policy)
    ranked = shop.rank(purchase(9, ts=60_000))

    shop.states = shop.blank_states()
    user_update.replay(
        shop.states, EventBatch.from_events(events, shop.states.slots(["ann"] * 7), shop.item_ids, appended)
    )
    assert np.array_equal(shop.rank(purchase(9, ts=60_000)).slate, ranked.slate)


def test_an_unknown_time_of_append_changes_no_event_time(shop: Shop) -> None:
    batch = EventBatch.from_events([purchase(1, ts=4_000)], shop.states.slots(["ann"]), shop.item_ids, [-1])
    assert batch.columns.ts.tolist() == [4_000]


def test_replayed_states_rank_like_ranked_ones_but_have_no_slate(shop: Shop) -> None:
    past = [purchase(n, user, ts=n * 1_000) for n in range(1, 8) for user in ("ann", "bob")]
    now = [purchase(9, user, ts=60_000) for user in ("ann", "bob")]
    shop.rank(*past)
    ranked = shop.rank(*now)

    shop.states = shop.blank_states()
    user_update.replay(shop.states, shop.batch(past))
    replayed = shop.rank(*now)
    assert np.array_equal(replayed.slate, ranked.slate)
    assert replayed.feedback.rank.tolist() == [NO_SLATE, NO_SLATE]


def test_a_new_release_encodes_a_users_history_again_at_the_next_event(shop: Shop, tmp_path: Path) -> None:
    history = [purchase(n, ts=n * 1_000) for n in range(1, 6)]
    shop.rank(*history)
    write_release(tmp_path / "r2", "r2", CATALOGUE, seed=9)
    second = live_release(tmp_path / "r2", shop.item_ids, CATALOGUE, number=1)
    shop.states.resize_vectors(DIMS, DIMS)
    swapped = shop.rank(purchase(6, ts=6_000), live=second)

    shop.states = shop.blank_states()
    fresh = shop.rank(*history, purchase(6, ts=6_000), live=second)
    assert shop.slate(swapped) == shop.slate(fresh)
    assert swapped.feedback.shown_release.tolist() == [0]


def test_a_new_long_term_item_replaces_the_weakest(shop: Shop) -> None:
    newest = [10, 11, 12, 13, 14, 15, 16, 17]
    for n, item in enumerate([1, 1, 2, 3, 4, 5, *newest]):
        shop.rank(purchase(item, ts=n * 1000 * WEEK_S))
    slot = np.array([0])
    before = {shop.item_ids.id(row) for row in shop.states.snapshot(slot).lists.long_term.item[0].tolist()}
    assert before == {"item 1", "item 3", "item 4", "item 5"}, "those that the history has no room for"
    assert [shop.item_ids.id(row) for row in shop.states.recent_items(slot, 8)[0]] == [
        f"item {n}" for n in reversed(newest)
    ]


def test_slots_of_a_dropped_partition_are_blank_for_their_next_users(shop: Shop) -> None:
    shop.states.slots(["ann", "bob"], [0, 1])
    shop.rank(purchase(1, "ann"), purchase(2, "bob"))
    assert shop.states.drop_partition(0) == 2, "ann, and the bob whose events came from there"
    assert shop.states.slot_of("ann") is None
    slot = shop.states.slots(["cat"], [1])
    assert shop.states.columns.event_count[slot].tolist() == [0]
    assert (shop.states.recent_items(slot, 8) == -1).all()


def test_the_highest_scores_come_first_and_of_equal_scores_the_first_candidate() -> None:
    random = np.random.default_rng(0)
    counts = random.integers(0, 60, 50)
    query = np.repeat(np.arange(50), counts).astype(np.int32)
    item, scores = random.permutation(len(query)).astype(np.int32), random.normal(size=len(query)).round(1)
    best = BestCandidates.empty(50, 20)
    top_k_per_query(scores.astype(np.float32), np.ones(len(query), np.bool_), query, item, best)
    for q, (first, count) in enumerate(zip(np.cumsum(counts) - counts, counts, strict=True)):
        expected = first + np.argsort(-scores[first : first + count], kind="stable")[:20]
        n = len(expected)
        assert best.candidate[q, :n].tolist() == expected.tolist()
        assert best.items[q, :n].tolist() == item[expected].tolist()
        np.testing.assert_allclose(best.scores[q, :n], scores[expected], rtol=1e-6)
        assert (best.candidate[q, n:] == -1).all()
        assert (best.items[q, n:] == -1).all()
