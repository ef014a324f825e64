"""What an offline run has in common with a ranker that takes the same events from Kafka."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from anabranch.messages import Event
from anabranch.ranking.event_batch import EventBatch
from anabranch.ranking.pipeline.feedback import NO_SLATE
from anabranch.ranking.pipeline.rank import rank
from anabranch.ranking.pipeline.user_update import replay
from anabranch.ranking.policy import Policy
from anabranch.ranking.retrieval import ann_index
from anabranch.ranking.retrieval.ann_index import INITIAL_EF_SEARCH
from anabranch.ranking.retrieval.co_visit_table import CoVisitRows
from anabranch.ranking.vocabulary import ItemVocabulary
from models.data.event_log import EventLog
from models.offline.offline_ranker import OfflineRanker, rank_batches, rank_events
from models.offline.ranking_lists import candidate_batches
from tests.support.layouts import LAYOUT
from tests.support.releases import live_release, write_release

ITEMS = tuple(f"item {number}" for number in range(40))
HOUR_MS = 3_600_000
START = 200
LAYOUTS = {
    "of the defaults": LAYOUT,
    "small": LAYOUT._replace(slate=5, history=3, long_term_items=2),
    "large": LAYOUT._replace(slate=40, history=200, long_term_items=300),
}


def events(count: int = 400, users: int = 6) -> list[Event]:
    """Views, an hour apart; a fifth of the events are searches."""
    random = np.random.default_rng(0)
    return [
        Event(
            event_id=str(number),
            user_id=f"user {random.integers(users)}",
            ts=number * HOUR_MS,
            **(
                {"type": "search", "query": f"red shoe {random.integers(30)}"}
                if random.random() < 0.2
                else {"type": "view", "item_id": ITEMS[int(random.zipf(1.3)) % len(ITEMS)]}
            ),
        )
        for number in range(count)
    ]


@pytest.fixture
def ranker(tmp_path: Path) -> OfflineRanker:
    write_release(tmp_path / "r1", item_ids=ITEMS)
    item_ids = ItemVocabulary()
    live = live_release(tmp_path / "r1", item_ids, ITEMS)
    return OfflineRanker(live, CoVisitRows(), item_ids, Policy(retrieval_k=40), LAYOUT)


def online(
    ranker: OfflineRanker, stream: Sequence[Event], batch_size: int = 1, served_from: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Slates and ranks of a ranker that gets the messages in batches; a release served from one of the events on, and
    its users had been restored until then."""
    states = ranker.empty_states()
    slates, ranks = [], []
    for start in range(0, len(stream), batch_size):
        part = stream[start : start + batch_size]
        batch = EventBatch.from_events(part, states.slots([one.user_id for one in part]), ranker.item_ids)
        if start < served_from:
            replay(states, batch)
            continue
        ranked = rank(ranker.live, ranker.neighbours, states, batch, ranker.policy)
        slates.append(ranked.slate)
        ranks.append(ranked.feedback.rank)
    return np.concatenate(slates), np.concatenate(ranks)


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_slates_and_ranks_are_the_online_ones_whatever_is_kept_of_a_user(
    ranker: OfflineRanker, layout: tuple[int, ...]
) -> None:
    ranker = replace(ranker, layout=layout)
    offline = list(rank_batches(ranker, EventLog.from_events(events(), ITEMS), START))
    slates, ranks = online(ranker, events(), served_from=START)
    np.testing.assert_array_equal(np.concatenate([batch.slate for batch in offline]), slates)
    np.testing.assert_array_equal(np.concatenate([batch.feedback.rank for batch in offline]), ranks)
    assert slates.shape[1] == layout.slate
    assert 0 < ranks.max() <= layout.slate


def test_a_search_moves_the_user(ranker: OfflineRanker) -> None:
    stream = [Event(event_id="1", user_id="ann", type="view", ts=1, item_id=ITEMS[0])]
    slates = []
    for query in ("shoe", "garden hose"):
        searched = [*stream, Event(event_id="2", user_id="ann", type="search", ts=2, query=query)]
        slates.append(rank_events(ranker, EventLog.from_events(searched, ITEMS), 0).slate)
    assert (slates[0][0] == slates[1][0]).all()
    assert (slates[0][1] != slates[1][1]).any()
    assert (slates[0][0] != slates[0][1]).any()


def test_candidates_after_a_search_are_those_of_the_serving_core(ranker: OfflineRanker) -> None:
    """Training lists and purchase examples are made of them."""
    log = EventLog.from_events(events(), ITEMS)
    before, after = log.take(slice(0, START)), log.take(slice(START, None))
    whole = candidate_batches(ranker, before, after, np.ones(len(after), np.bool_))
    features = np.concatenate([batch.features for batch in whole])
    silent = replace(log, query=np.full_like(log.query, -1))
    before, after = silent.take(slice(0, START)), silent.take(slice(START, None))
    without = candidate_batches(ranker, before, after, np.ones(len(after), np.bool_))
    assert not np.array_equal(features, np.concatenate([batch.features for batch in without]))


def test_users_of_a_release_that_has_served_go_on_from_their_states(ranker: OfflineRanker) -> None:
    """A history of three events is not what such a state remembers."""
    ranker = replace(ranker, layout=LAYOUT._replace(history=3))
    log = EventLog.from_events(events(), ITEMS)
    served = replace(ranker, served_from_ms=int(log.ts[0]))
    expected = online(ranker, events())[1][START:]
    np.testing.assert_array_equal(rank_events(served, log, START).rank, expected)
    assert (rank_events(ranker, log, START).rank != expected).any(), "users encoded from their histories differ"


def test_a_release_that_served_for_a_while_had_users_encoded_from_their_histories_first(ranker: OfflineRanker) -> None:
    ranker = replace(ranker, layout=LAYOUT._replace(history=3))
    log = EventLog.from_events(events(), ITEMS)
    served = replace(ranker, served_from_ms=int(log.ts[START - 100]))
    expected = online(ranker, events(), served_from=START - 100)[1][100:]
    ranks = rank_events(served, log, START).rank
    np.testing.assert_array_equal(ranks[expected != NO_SLATE], expected[expected != NO_SLATE])


def test_ranks_are_those_of_an_idle_ranker_also_where_the_latest_event_of_a_batch_is_ranked(
    ranker: OfflineRanker,
) -> None:
    latest = replace(ranker, policy=replace(ranker.policy, latest=True))
    log = EventLog.from_events(events(), ITEMS)
    ranks = rank_events(latest, log, 0).rank
    np.testing.assert_array_equal(ranks, online(latest, events())[1])
    assert (ranks != online(latest, events(), batch_size=50)[1]).any(), "a busy ranker shows fewer slates"


def test_a_large_index_is_tuned_to_the_users_as_the_live_one_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ann_index, "FLAT_INDEX_MAX_ITEMS", 100)
    monkeypatch.setattr(ann_index, "SCANS_PER_EF_SEARCH", 1)
    many = [f"thing {number}" for number in range(2_000)]
    write_release(tmp_path / "r1", item_ids=many)
    item_ids = ItemVocabulary()

    def tuned(log: EventLog, start: int) -> int:
        live = live_release(tmp_path / "r1", item_ids, many)
        assert live.index.base.ef_search == INITIAL_EF_SEARCH
        rank_events(OfflineRanker(live, CoVisitRows(), item_ids, Policy(), LAYOUT), log, start)
        return live.index.base.ef_search

    many_users = EventLog.from_events(events(400, users=100), ITEMS)
    assert tuned(many_users, START) != INITIAL_EF_SEARCH
    assert tuned(many_users, 0) != INITIAL_EF_SEARCH, "without a past, it is tuned to the first users"
    assert tuned(EventLog.from_events(events(400, users=6), ITEMS), START) == INITIAL_EF_SEARCH, "too few users"
