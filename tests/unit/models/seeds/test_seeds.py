"""Properties of all seed models."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
import pytest

from models.data.event_log import EventColumns, EventLog
from models.data.sequences import Sequences
from models.seeds.als import AlsSeedModel
from models.seeds.attention import AttentionConfig, AttentionSeedModel
from models.seeds.co_visit import CoVisitSeedModel
from models.seeds.gru import GruConfig
from models.seeds.seed_model import SeedModel, top_k_items
from models.seeds.sequence import SequenceSeedModel
from models.seeds.session_knn import SessionKnnSeedModel
from models.seeds.slice import DomainSeedModel, TaskSeedModel
from models.seeds.text import TextSeedModel

ITEMS = 12
NETWORK = {"dims": 16, "window": 8, "epochs": 12, "events_per_step": 64, "negatives": 64}


def attention(kind: Literal["sasrec", "hstu"]) -> AttentionSeedModel:
    return AttentionSeedModel(config=AttentionConfig(kind=kind, dropout=0.1, learning_rate=1e-2, **NETWORK))


def gru() -> SequenceSeedModel:
    return SequenceSeedModel(config=GruConfig(mean_target_gap=1.5, **NETWORK))


MAKERS: dict[str, Callable[[], SeedModel]] = {
    "co_visit": CoVisitSeedModel,
    "als": lambda: AlsSeedModel(factors=4, iterations=5, threads=1),
    "text": lambda: TextSeedModel(dims=4),
    "sequence": gru,
    "attention": lambda: attention("sasrec"),
    "attention hstu": lambda: attention("hstu"),
    "session_knn": SessionKnnSeedModel,
    "of task": lambda: TaskSeedModel(gru(), "purchase"),
    "of domain": lambda: DomainSeedModel(gru(), "all", np.full(ITEMS, "all")),
}


def log() -> EventLog:
    """Even users visit items 0..5, odd users items 6..11: two groups."""
    random = np.random.default_rng(0)
    user = np.repeat(np.arange(40), 12)
    item = random.integers(0, 6, len(user)) + 6 * (user % 2)
    ts = np.arange(len(user)) * 60_000
    return EventLog.from_columns(
        EventColumns(user, item, np.full(len(user), 2), ts, user),
        user_ids=tuple(map(str, range(40))),
        item_ids=tuple(map(str, range(ITEMS))),
    )


def texts() -> np.ndarray:
    """Text vectors [12, 16], similar within each group."""
    random = np.random.default_rng(1)
    worlds = np.repeat(random.normal(size=(2, 16)), 6, axis=0)
    return (worlds + 0.3 * random.normal(size=(ITEMS, 16))).astype(np.float32)


@pytest.fixture(scope="module", params=MAKERS)
def make(request: pytest.FixtureRequest) -> Callable[[], SeedModel]:
    return MAKERS[request.param]


@pytest.fixture(scope="module")
def seed_model(make: Callable[[], SeedModel]) -> SeedModel:
    fitted_model = make()
    fitted_model.fit(log(), texts(), lambda share: None)
    return fitted_model


def test_a_seed_model_predicts_items_like_those_it_was_fitted_to(seed_model: SeedModel) -> None:
    sequences = Sequences.from_log(log())
    rows = np.arange(5, len(sequences), 12)
    top_k = seed_model.predict_top_k(sequences.contexts(rows, 8), 4)
    assert top_k.items.shape == (40, 4)
    named = top_k.items >= 0
    assert named.mean() > 0.8
    same_world = (top_k.items // 6) == (sequences.user[rows] % 2)[:, None]
    assert same_world[named].mean() > 0.9


def test_a_list_has_no_item_twice(seed_model: SeedModel) -> None:
    top_k = seed_model.predict_top_k(Sequences.from_log(log()).contexts(np.arange(50), 8), 6)
    for items in top_k.items:
        named = items[items >= 0]
        assert len(np.unique(named)) == len(named)


def test_confidence_is_between_0_and_1(seed_model: SeedModel) -> None:
    top_k = seed_model.predict_top_k(Sequences.from_log(log()).contexts(np.arange(50), 8), 4)
    assert top_k.confidence.shape == (50,)
    assert ((top_k.confidence >= 0) & (top_k.confidence <= 1.0001)).all()


def test_a_prediction_does_not_depend_on_its_batch(seed_model: SeedModel) -> None:
    contexts = Sequences.from_log(log()).contexts(np.arange(20), 8)
    together = seed_model.predict_top_k(contexts, 4)
    alone = seed_model.predict_top_k(contexts.part(7, 8), 4)
    np.testing.assert_array_equal(alone.items[0], together.items[7])
    np.testing.assert_allclose(alone.confidence[0], together.confidence[7], atol=1e-5)


def test_a_second_fit_predicts_the_same_and_reports_its_progress(
    make: Callable[[], SeedModel], seed_model: SeedModel
) -> None:
    progress: list[float] = []
    again = make()
    again.fit(log(), texts(), progress.append)
    assert sum(progress) == pytest.approx(1.0)
    contexts = Sequences.from_log(log()).contexts(np.arange(50), 8)
    np.testing.assert_array_equal(again.predict_top_k(contexts, 4).items, seed_model.predict_top_k(contexts, 4).items)


def test_top_k_leaves_out_scores_of_minus_infinity() -> None:
    scores = np.array([[1.0, 3.0, -np.inf, 2.0]], np.float32)
    assert top_k_items(scores, 4).tolist() == [[1, 3, 0, -1]]
    assert top_k_items(scores, 9).tolist() == [[1, 3, 0, -1]]
