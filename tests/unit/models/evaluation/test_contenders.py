from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from msgspec import structs

from anabranch.messages import Item
from anabranch.placements import AGAIN, DISCOVER, FOR_YOU
from anabranch.ranking.event_batch import EventBatch
from anabranch.ranking.pipeline.feedback import NO_SLATE, NOT_ON_SLATE
from anabranch.ranking.pipeline.rank import rank
from anabranch.ranking.pipeline.user_update import replay
from anabranch.ranking.policy import Policy
from anabranch.ranking.user_state.store import UserStates
from anabranch.ranking.vocabulary import ItemVocabulary
from anabranch.release import Release
from models.co_visit.model import CoVisitModel
from models.data.event_log import DAY_MS, NONE, EventColumns, EventLog
from models.evaluation.baselines import PersonalFrequency, Popularity
from models.evaluation.contenders import Contenders, evaluate_contenders
from models.evaluation.prequential import ServedLog, evaluate_prequentially
from models.evaluation.seed_model_ranks import prediction_points_before, seed_ranks
from models.offline.offline_ranker import OfflineRanker, load_servable, neighbour_table, rank_batches, rank_events
from models.seeds.co_visit import CoVisitSeedModel
from tests.support.layouts import LAYOUT
from tests.support.logged_events import events_of_log
from tests.support.releases import live_release, write_release

ITEMS = tuple(f"item {number}" for number in range(40))
START = 300


@pytest.fixture(scope="module")
def log() -> EventLog:
    """600 purchases of 12 users, in sessions of about 5, of 40 items."""
    random = np.random.default_rng(0)
    user = random.integers(12, size=600)
    visit = np.zeros(600, np.int64)
    for one in range(12):
        visit[user == one] = np.arange((user == one).sum()) // 5
    return EventLog.from_columns(
        EventColumns(
            user=user,
            item=random.zipf(1.3, size=600) % len(ITEMS),
            type=np.full(600, 2),
            ts=np.arange(600) * 60_000,
            session=user * 1000 + visit,
        ),
        user_ids=tuple(f"user {number}" for number in range(12)),
        item_ids=ITEMS,
    )


@pytest.fixture
def ranker(tmp_path: Path, log: EventLog) -> OfflineRanker:
    item_ids = ItemVocabulary()
    write_release(tmp_path / "r1", item_ids=ITEMS)
    neighbours = neighbour_table(CoVisitModel().fit(log.take(slice(0, START))).table(), item_ids, log)
    return OfflineRanker(
        live_release(tmp_path / "r1", item_ids, ITEMS), neighbours, item_ids, Policy(), LAYOUT._replace(slate=5)
    )


def online(ranker: OfflineRanker, log: EventLog, start: int) -> tuple[np.ndarray, np.ndarray]:
    """Slates and ranks of a ranker that is handed the messages: it restores, then ranks one event at a time."""
    states = UserStates(ranker.layout, ranker.live.index.dims, ranker.live.manifest.state_dims)
    slates, ranks = [], []
    for at, event in enumerate(events_of_log(log)):
        batch = EventBatch.from_events([event], states.slots([event.user_id]), ranker.item_ids)
        if at < start:
            replay(states, batch)
        else:
            ranked = rank(ranker.live, ranker.neighbours, states, batch, ranker.policy)
            slates.append(ranked.slate)
            ranks.append(ranked.feedback.rank)
    return np.concatenate(slates), np.concatenate(ranks)


def test_a_log_driven_offline_gives_the_slates_of_its_messages_one_by_one(ranker: OfflineRanker, log: EventLog) -> None:
    offline = list(rank_batches(ranker, log, START))
    slates, ranks = online(ranker, log, START)
    np.testing.assert_array_equal(np.concatenate([batch.slate for batch in offline]), slates)
    np.testing.assert_array_equal(np.concatenate([batch.feedback.rank for batch in offline]), ranks)


def test_users_with_a_past_have_a_slate_from_the_first_event_on(ranker: OfflineRanker, log: EventLog) -> None:
    """Where the ranker had seen only the past, the slate made at each user's last event in it is what was shown."""
    ranks = rank_events(ranker, log, START).rank
    assert len(ranks) == len(log) - START
    assert (ranks != NO_SLATE).all()
    cold = np.concatenate([batch.feedback.rank for batch in rank_batches(ranker, log, START)])
    warm = cold != NO_SLATE
    np.testing.assert_array_equal(ranks[warm], cold[warm])
    np.testing.assert_array_equal(ranks, online(ranker, log, 0)[1][START:])


def test_without_a_past_only_first_events_lack_a_slate(ranker: OfflineRanker, log: EventLog) -> None:
    ranks = rank_events(ranker, log, 0).rank
    first = np.unique(log.user, return_index=True)[1]
    assert np.flatnonzero(ranks == NO_SLATE).tolist() == sorted(first.tolist())


def without_incumbent(ranker: OfflineRanker, log: EventLog) -> Contenders:
    return Contenders(ranker, None, CoVisitModel().fit(log.take(slice(0, START))))


def test_all_contenders_are_evaluated_on_the_same_events(tmp_path: Path, ranker: OfflineRanker, log: EventLog) -> None:
    write_release(tmp_path / "r2", "r2", ITEMS, seed=1, parent="r1")
    other = replace(ranker, live=live_release(tmp_path / "r2", ranker.item_ids, ITEMS))
    co_visit = CoVisitModel().fit(log.take(slice(0, START)))
    progress: list[int] = []
    paired = evaluate_contenders(Contenders(other, ranker, co_visit), log, START, done=progress.append)
    assert paired.incumbent is not None
    rankings = (paired.release_candidate, paired.incumbent, *paired.baselines.values())
    assert {len(ranks) for ranks in rankings} == {len(paired.user)} == {len(log) - START}
    assert sum(progress) == 3 * len(log)
    np.testing.assert_array_equal(paired.incumbent, rank_events(ranker, log, START).rank)
    np.testing.assert_array_equal(co_visit.table().share, CoVisitModel().fit(log).table().share)


def test_the_co_visit_model_has_the_same_metrics_in_the_prequential_evaluation(
    ranker: OfflineRanker, log: EventLog
) -> None:
    paired = evaluate_contenders(without_incumbent(ranker, log), log, START)
    served = ServedLog.from_offline(log, rank_events(ranker, log, START), ranker.live.manifest.id)
    scores = evaluate_prequentially(served, ranker.rules, [CoVisitModel()]).overall.scores
    assert paired.incumbent is None
    assert scores["co_visit"].recall_at_20 == pytest.approx((paired.baselines["co_visit"] > 0).mean())
    assert scores["served"].events == len(paired.user)


def test_paired_ranks_are_divided_into_slices(ranker: OfflineRanker, log: EventLog) -> None:
    """Every user has earlier events, so every event has a slate and is evaluated."""
    domains = ["kitchen" if number % 2 else "garden" for number in range(len(ITEMS))]
    paired = evaluate_contenders(without_incumbent(ranker, log), log, START, domains)
    item, user = log.item[START:], log.user[START:]
    had = {(one, int(bought)) for one, bought in zip(log.user[:START].tolist(), log.item[:START], strict=True)}
    repeats = []
    for pair in zip(user.tolist(), item.tolist(), strict=True):
        repeats.append(pair in had)
        had.add(pair)
    assert paired.slices["task:purchase"].all()
    np.testing.assert_array_equal(paired.slices["domain:garden"], item % 2 == 0)
    np.testing.assert_array_equal(paired.slices["cold_items"], np.bincount(log.item[:START], minlength=40)[item] <= 5)
    np.testing.assert_array_equal(paired.slices["repeat"], repeats)
    np.testing.assert_array_equal(paired.slices["new_to_user"], ~np.array(repeats))


def test_baselines_seed_models_and_earlier_releases_rank_the_same_events(
    tmp_path: Path, ranker: OfflineRanker, log: EventLog
) -> None:
    write_release(tmp_path / "r0", "r0", ITEMS, seed=2)
    earlier = replace(ranker, live=live_release(tmp_path / "r0", ranker.item_ids, ITEMS))
    before = log.take(slice(0, START))
    seed = CoVisitSeedModel()
    seed.fit(before, np.zeros((len(ITEMS), 1), np.float32), lambda share: None)
    contenders = Contenders(
        ranker, ranker, CoVisitModel().fit(before), [Popularity(), PersonalFrequency()], [seed], {"r0": lambda: earlier}
    )
    progress: list[int] = []
    paired = evaluate_contenders(contenders, log, START, [None] * len(ITEMS), progress.append)
    assert sum(progress) == contenders.passes * len(log)
    np.testing.assert_array_equal(paired.earlier["r0"], rank_events(earlier, log, START).rank)
    points = prediction_points_before(log, np.arange(START, len(log)), ranker.rules)
    np.testing.assert_array_equal(
        paired.seed_models[seed.name], seed_ranks(seed, points, log.item[START:], ranker.layout.slate)
    )
    served = ServedLog.from_offline(log, rank_events(ranker, log, START), "r1")
    scores = evaluate_prequentially(served, ranker.rules, [Popularity(), PersonalFrequency()]).overall.scores
    for name in ("popularity", "personal_frequency"):
        assert scores[name].recall_at_20 == pytest.approx((paired.baselines[name] > 0).mean())
    assert paired.shown_items is not None
    assert paired.shown_items[0] == paired.shown_items[1] > 5
    np.testing.assert_array_equal(paired.day, log.ts[START:] // DAY_MS)


def test_each_placement_has_the_ranks_of_its_own_slates_on_the_events_that_it_is_for(
    tmp_path: Path, ranker: OfflineRanker, log: EventLog
) -> None:
    write_release(tmp_path / "r0", "r0", ITEMS, seed=2)
    three = (FOR_YOU, AGAIN, DISCOVER)
    layout = ranker.layout._replace(placements=tuple(placement.name for placement in three))
    ranker = replace(ranker, policy=Policy(placements=three), layout=layout)
    other = replace(ranker, live=live_release(tmp_path / "r0", ranker.item_ids, ITEMS))
    before, baselines = log.take(slice(0, START)), [Popularity(), PersonalFrequency()]
    seed = CoVisitSeedModel()
    seed.fit(before, np.zeros((len(ITEMS), 1), np.float32), lambda share: None)
    contenders = Contenders(ranker, other, CoVisitModel().fit(before), baselines, [seed], {"r0": lambda: other})
    progress: list[int] = []
    paired = evaluate_contenders(contenders, log, START, [None] * len(ITEMS), progress.append)
    assert sum(progress) == contenders.passes * len(log), "no pass of its own for a placement"
    assert list(paired.placements) == ["again", "discover"]
    assert paired.placed_elsewhere == {"repeat", "new_to_user"}

    ours, theirs = (rank_events(one, log, START).ranks for one in (ranker, other))
    served = ServedLog.from_offline(log, rank_events(ranker, log, START), "r1")
    by_baseline = evaluate_prequentially(served, ranker.rules, [Popularity(), PersonalFrequency()]).placements
    for number, (name, those) in enumerate({"again": "repeat", "discover": "new_to_user"}.items(), start=1):
        events, part = paired.slices[those], paired.placements[name]
        rows = START + np.flatnonzero(events)
        assert 0 < len(rows) < len(log) - START
        np.testing.assert_array_equal(part.user, log.user[rows])
        np.testing.assert_array_equal(part.day, log.ts[rows] // DAY_MS)
        np.testing.assert_array_equal(part.release_candidate, ours[events, number])
        np.testing.assert_array_equal(part.incumbent, theirs[events, number])
        np.testing.assert_array_equal(part.earlier["r0"], theirs[events, number])
        for baseline in ("popularity", "personal_frequency"):
            recall = by_baseline[name].scores[baseline].recall_at_20
            assert recall == pytest.approx((part.baselines[baseline] > 0).mean())
        rules = ranker.rules.by_placement[number]
        points = prediction_points_before(log, rows, rules)
        np.testing.assert_array_equal(
            part.seed_models[seed.name], seed_ranks(seed, points, log.item[rows], layout.slate)
        )
        assert (part.release_candidate != paired.release_candidate[events]).any()


def test_a_placement_is_ranked_without_regard_to_those_before_it(ranker: OfflineRanker, log: EventLog) -> None:
    """All that the second one shows stands on the first one, so without it nothing would be left."""
    again = structs.replace(AGAIN, without=("for_you",))
    layout = ranker.layout._replace(placements=("for_you", "again"), slate=len(ITEMS))
    ranker = replace(ranker, policy=Policy(placements=(FOR_YOU, again)), layout=layout)
    assert (rank_events(ranker, log, START).ranks[:, 1] <= 0).all()
    paired = evaluate_contenders(without_incumbent(ranker, log), log, START).placements["again"]
    assert (paired.release_candidate > 0).any()
    assert paired.incumbent is None


def test_with_one_placement_no_slice_is_placed_elsewhere(ranker: OfflineRanker, log: EventLog) -> None:
    paired = evaluate_contenders(without_incumbent(ranker, log), log, START)
    assert (dict(paired.placements), paired.placed_elsewhere) == ({}, frozenset())


def test_a_seed_model_ranks_nothing_beyond_its_catalogue(ranker: OfflineRanker, log: EventLog) -> None:
    known = 20
    before = log.take(log.item < known).split(int(log.ts[START]))[0]
    seed = CoVisitSeedModel()
    seed.fit(before, np.zeros((known, 1), np.float32), lambda share: None)
    contenders = replace(without_incumbent(ranker, log), seed_models=[seed])
    ranks = evaluate_contenders(contenders, log, START, [None] * known).seed_models[seed.name]
    assert (ranks[log.item[START:] >= known] == NOT_ON_SLATE).all()
    assert (ranks > 0).any()


def test_the_first_events_of_sessions_are_a_slice(ranker: OfflineRanker, log: EventLog) -> None:
    first = evaluate_contenders(without_incumbent(ranker, log), log, START).slices["first_of_session"]
    begins = np.zeros(len(log), np.bool_)
    begins[np.unique(log.session, return_index=True)[1]] = True
    np.testing.assert_array_equal(first, begins[START:])


def test_a_release_is_loaded_with_the_catalogue_in_its_index(tmp_path: Path) -> None:
    manifest = write_release(tmp_path / "r1", item_ids=ITEMS)
    item_ids = ItemVocabulary()
    reference = live_release(tmp_path / "r1", item_ids, ITEMS)
    items = [Item(item_id=item_id, title=item_id, available=item_id != "item 3") for item_id in ITEMS]
    live = load_servable(Release(tmp_path / "r1", manifest), item_ids, items, tmp_path)
    rows = item_ids.rows(ITEMS)
    np.testing.assert_allclose(live.index.vectors(rows), reference.index.vectors(rows), atol=1e-6)
    assert np.flatnonzero(~live.index.columns.servable[rows]).tolist() == [3]


def test_propensities_are_those_of_the_evaluated_events(ranker: OfflineRanker, log: EventLog) -> None:
    searches = np.arange(len(log)) % 5 == 0
    with_searches = replace(log, item=np.where(searches, NONE, log.item).astype(np.int32))
    propensity = np.random.default_rng(0).random(len(log))
    paired = evaluate_contenders(without_incumbent(ranker, log), with_searches, START, propensity=propensity)
    np.testing.assert_array_equal(paired.propensity, propensity[START:][~searches[START:]])
    assert evaluate_contenders(without_incumbent(ranker, log), log, START).propensity is None


def test_a_log_is_ranked_without_explored_places(ranker: OfflineRanker, log: EventLog) -> None:
    exploring = replace(ranker, policy=replace(ranker.policy, explore_places=1))
    best = rank_events(ranker, log, START).slate
    np.testing.assert_array_equal(rank_events(exploring, log, START).slate, best)
    explored = online(exploring, log, START)[0]
    assert (explored[:, -1] != best[:, -1]).any(), "online it explores"
