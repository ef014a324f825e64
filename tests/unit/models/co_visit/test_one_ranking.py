"""Baseline, seed model and served features score by the same rule, so they put items into the same order."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from anabranch.co_visit_rule import CoVisitRule
from anabranch.co_visit_scoring import CoVisitScoring
from anabranch.ranking.policy import Policy
from anabranch.ranking.retrieval.candidates import propose
from anabranch.ranking.retrieval.item_index import ItemIndex
from anabranch.ranking.user_state.snapshot import UserSnapshots
from anabranch.ranking.vocabulary import ItemVocabulary
from models.co_visit.model import CoVisitModel
from models.co_visit.text_neighbours import text_neighbours
from models.data.event_log import EventColumns, EventLog
from models.data.sequences import Sequences
from models.offline.offline_ranker import neighbour_table
from models.pipeline.config import ReleaseCandidateConfig
from models.pipeline.presets import Kind, preset
from models.seeds.co_visit import CoVisitSeedModel
from tests.support.layouts import LAYOUT

ITEMS, USERS, EVENTS = 40, 25, 600
TEXTS = np.random.default_rng(7).normal(size=(ITEMS, 8)).astype(np.float32)
BREAD, MILK, SOUP, BEER = range(4)


def log() -> EventLog:
    random = np.random.default_rng(0)
    return EventLog.from_columns(
        EventColumns(
            random.integers(USERS, size=EVENTS),
            random.zipf(1.4, size=EVENTS) % ITEMS,
            np.zeros(EVENTS, np.int64),
            np.arange(EVENTS) * 3_600_000,
            random.integers(3, size=EVENTS),
        ),
        user_ids=tuple(map(str, range(USERS))),
        item_ids=tuple(map(str, range(ITEMS))),
    )


def config_of(kind: Kind) -> ReleaseCandidateConfig:
    """The preset with every pair published, as the seed model knows them, and all of its neighbours."""
    config = preset(kind)
    return replace(
        config,
        co_visits=replace(config.co_visits, min_users=1),
        policy=replace(config.policy, neighbours=ITEMS, recent=64, retrieval_k=ITEMS),
    )


def served_order(config: ReleaseCandidateConfig, events: EventLog, recent: list[int], k: int) -> list[int]:
    """Items by the feature `co_visit_recent` of a user with these newest items."""
    item_ids = ItemVocabulary()
    table = config.co_visit_model(text_neighbours(config.co_visits, TEXTS)).fit(events).table(config.policy.neighbours)
    rows = item_ids.rows(events.item_ids)
    index = ItemIndex(4)
    index.upsert(rows, np.ones((ITEMS, 4), np.float32), np.ones(ITEMS, np.bool_))
    queries = UserSnapshots.empty(1, dims=4, layout=LAYOUT)
    queries.recent[0] = -1
    queries.recent[0, : len(recent)] = rows[recent]
    policy = replace(config.policy, allow_session_repeats=True, exclude_seen=False)
    candidates = propose(queries, index, neighbour_table(table, item_ids, events, ITEMS), policy, 3600)
    item_of = {int(row): item for item, row in enumerate(rows)}
    score = {item_of[int(c)]: s for c, s in zip(candidates.item, candidates.co_visit_recent, strict=True) if s > 0}
    return sorted(score, key=lambda item: (-score[item], item))[:k]


@pytest.mark.parametrize("kind", ["sessions", "histories", "long_histories", "baskets"])
def test_baseline_seed_and_served_feature_rank_alike(kind: Kind) -> None:
    config, events, k = config_of(kind), log(), 12
    baseline = config.co_visit_model(text_neighbours(config.co_visits, TEXTS)).fit(events)
    seed = config.co_visit_seed_model()
    seed.fit(events, TEXTS, lambda share: None)
    sequences = Sequences.from_log(events)
    contexts = sequences.contexts(sequences.start[1:] - 1, 64)
    listed = seed.predict_top_k(contexts, k).items
    for n, user in enumerate(contexts.user.tolist()):
        recent = contexts.recent[n][contexts.recent[n] >= 0].tolist()
        order = baseline.scored(user).top(k)
        assert listed[n][listed[n] >= 0].tolist() == order
        assert served_order(config, events, recent, k) == order


def test_an_items_weight_falls_by_step_and_the_item_itself_has_its_own_share() -> None:
    """Three visited bread then milk, and three soup then beer; Ann has seen soup, then bread.

    Ann's own pair is one of four co-visits of soup. By hand: milk 1, beer .5 · 3/4, bread .3, soup .5 · .3.
    """
    rule = CoVisitRule(damping=0, backward=0)
    model = CoVisitModel(rule, CoVisitScoring(recent=2, decay=0.5, own_share=0.3))
    for user in range(3):
        for item, session in ((BREAD, 0), (MILK, 0)):
            model.learn(user, item, ts=user, session=session)
        for item in (SOUP, BEER):
            model.learn(10 + user, item, ts=user, session=1)
    ann = 99
    model.learn(ann, SOUP, ts=9, session=2)
    model.learn(ann, BREAD, ts=9, session=3)
    assert model.scored(ann).top(4) == [MILK, BEER, BREAD, SOUP]
    assert CoVisitModel(rule, CoVisitScoring(recent=1)).fit(log()).scored(99).top(4) == []


def test_a_release_serves_by_the_scoring_that_it_recorded() -> None:
    scoring = CoVisitScoring(recent=7, decay=0.9, own_share=0.1)
    recorded = Policy(co_visit_scoring=scoring).for_release
    assert recorded.co_visit_scoring == scoring


def test_the_seed_model_counts_every_pair_and_the_table_those_of_three_users() -> None:
    events = log().take(slice(0, 40))
    seed = CoVisitSeedModel()
    seed.fit(events, TEXTS, lambda share: None)
    assert seed.table is not None
    assert (seed.table.neighbours >= 0).sum() > (CoVisitModel().fit(events).table(64).neighbours >= 0).sum()


def test_releases_without_a_recorded_scoring_keep_the_one_that_they_learned_from(tmp_path: Path) -> None:
    assert CoVisitScoring() == CoVisitScoring(recent=10, decay=0.5**0.5, own_share=0.0)
