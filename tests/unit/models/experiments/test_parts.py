"""A part that is taken out of a ranking is out: nothing comes from it, and nothing else changes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from anabranch.ranking.inference.item_encoder import item_text
from anabranch.ranking.pipeline.features import FEATURES
from anabranch.ranking.policy import Policy
from models.experiments import benchmark
from models.experiments.benchmark import OfflineBenchmark, session_benchmark
from models.experiments.parts import (
    TrainedPart,
    choose_parts,
    parts_of,
    without_encoder,
    without_neighbours,
    without_own_items,
    without_texts,
)
from models.networks.list_ranker import ListRankerConfig
from models.offline.offline_ranker import OfflineRanker
from models.offline.ranking_lists import CandidateBatch, candidate_batches
from models.pipeline.config import ReleaseCandidateConfig
from models.seeds.als import AlsSeedModel
from models.sharing.strategies.rank_distillation import RankDistillation
from models.sharing.strategies.replay import Replay
from models.sharing.strategies.text_geometry import TextGeometry
from models.sharing.training import Training
from tests.support.data_folders import write_folder

ITEMS = 30
CONFIG = ReleaseCandidateConfig(
    threads=1,
    quantise_text=False,
    policy=Policy(allow_session_repeats=True),
    seed_models=lambda config: [AlsSeedModel(threads=1, iterations=1)],
    strategies=(TextGeometry(), RankDistillation()),
    comparison_points=0,
    training=Training(epochs=1, negatives=64, events_per_step=256),
    list_ranker=ListRankerConfig(epochs=1),
)
OF_VECTORS = ["inner_product", "below_best", "like_last", "like_recent"]
OF_NEIGHBOURS = ["co_visit_last", "co_visit_recent"]


@pytest.fixture(scope="module")
def sessions(tmp_path_factory: pytest.TempPathFactory) -> OfflineBenchmark:
    """Sessions of five that go round the items in order and come back to the first."""
    begin = np.random.default_rng(0).integers(ITEMS, size=120)
    rows = [(user, at, int((begin[user] + at % 4) % ITEMS)) for user in range(len(begin)) for at in range(5)]
    described = [{"item_id": item, "title": f"thing {item}", "brand": None, "category": None} for item in range(ITEMS)]
    folder = write_folder(tmp_path_factory.mktemp("rounds"), {"train": rows[:500], "test": rows[500:]}, described)
    return session_benchmark(folder, CONFIG)


@pytest.fixture(scope="module")
def ranker(sessions: OfflineBenchmark, tmp_path_factory: pytest.TempPathFactory) -> OfflineRanker:
    scratch = tmp_path_factory.mktemp("made")
    release, _, _ = benchmark.make_release(sessions, scratch / "release", scratch)
    return benchmark.offline_ranker(sessions, release, scratch)


def candidates(ranker: OfflineRanker, sessions: OfflineBenchmark) -> list[CandidateBatch]:
    test = sessions.log.take(slice(sessions.start, None))
    return list(candidate_batches(ranker, sessions.train_log, test, np.ones(len(test), np.bool_)))


def features(batches: list[CandidateBatch], names: list[str]) -> np.ndarray:
    columns = [FEATURES.index(name) for name in names]
    return np.concatenate([batch.features for batch in batches])[:, columns]


def test_without_the_encoder_no_feature_is_of_vectors_and_neighbours_still_propose(
    ranker: OfflineRanker, sessions: OfflineBenchmark
) -> None:
    rest = candidates(without_encoder(ranker), sessions)
    assert not features(rest, OF_VECTORS).any()
    assert (features(rest, ["co_visit_last"]) > features(rest, ["co_visit_last"]).min()).any()
    assert features(candidates(ranker, sessions), OF_VECTORS).any(), "the complete ranker has not changed"


def test_without_neighbours_no_feature_is_of_them_and_the_index_still_proposes(
    ranker: OfflineRanker, sessions: OfflineBenchmark
) -> None:
    rest = candidates(without_neighbours(ranker), sessions)
    assert len(np.unique(features(rest, OF_NEIGHBOURS))) == 1
    assert features(rest, ["inner_product"]).any()
    assert len(np.unique(features(rest, ["popularity"]))) > 1
    assert len(np.unique(features(candidates(ranker, sessions), OF_NEIGHBOURS))) > 1, "nor has the complete ranker"


def test_without_own_items_none_is_a_candidate(ranker: OfflineRanker, sessions: OfflineBenchmark) -> None:
    assert features(candidates(ranker, sessions), ["own_count"]).any()
    assert not features(candidates(without_own_items(ranker), sessions), ["own_count"]).any()


def test_the_parts_are_those_that_this_training_uses(sessions: OfflineBenchmark) -> None:
    names = [part.name for part in parts_of(sessions)]
    assert names == [
        *("encoder", "neighbours", "own_items", "learned_order", "texts"),
        *("text_geometry", "rank_distillation", "seed:co_visit", "seed:als"),
    ]
    config = replace(CONFIG, policy=Policy(exclude_seen=True), strategies=(TextGeometry(), Replay(first=False)))
    bare = replace(sessions, config=config, items=without_texts(sessions).items)
    assert [part.name for part in parts_of(bare)] == ["encoder", "neighbours", "learned_order"]


def test_each_is_every_part_and_a_name_counts_once(sessions: OfflineBenchmark) -> None:
    assert [part.name for part in choose_parts("each", sessions)] == [part.name for part in parts_of(sessions)]
    assert [part.name for part in choose_parts("texts, encoder,texts", sessions)] == ["texts", "encoder"]


def test_a_release_without_a_part_of_its_training_is_trained_without_it(
    sessions: OfflineBenchmark, tmp_path: Path
) -> None:
    texts, geometry, teacher = (trained_part(name, sessions) for name in ("texts", "text_geometry", "seed:co_visit"))
    assert not any(item_text(item) for item in texts.take_out(sessions).items)
    assert [strategy.name for strategy in geometry.take_out(sessions).config.strategies] == ["rank_distillation"]
    made, _, _ = benchmark.make_release(teacher.take_out(sessions), tmp_path / "release", tmp_path)
    assert made.manifest.seeds == ["als"]


def trained_part(name: str, sessions: OfflineBenchmark) -> TrainedPart:
    [part] = choose_parts(name, sessions)
    assert isinstance(part, TrainedPart)
    return part
