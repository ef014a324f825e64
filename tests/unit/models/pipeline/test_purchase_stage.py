"""A child's purchase head learns on moments that its features were not fitted to."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from anabranch.messages import EVENT_TYPES, Item
from anabranch.ranking.inference.item_encoder import item_numbers
from anabranch.ranking.inference.list_ranker import OnnxListRanker
from anabranch.release import PURCHASE_HEAD, Release, UnverifiedRelease
from models.data.event_log import DAY_MS, NONE, EventColumns, EventLog
from models.data.purchase_examples import PurchaseExampleConfig
from models.experiments.benchmark import OfflineBenchmark, make_release
from models.networks.list_ranker import ListRankerConfig
from models.networks.purchase_head import PurchaseConfig
from models.networks.text_transformer import TextConfig
from models.pipeline import release_candidate
from models.pipeline.config import PipelineInputs, ReleaseCandidateConfig
from models.pipeline.encoder_stage import ENCODER_WEIGHTS, load_encoder
from models.pipeline.purchase_stage import HELD_BACK_WEIGHTS, UnseenMoments
from models.pipeline.release_candidate import ReleaseCandidate, make_release_candidate
from models.sharing.strategies.text_geometry import TextGeometry
from models.sharing.training import Training
from tests.support.text_models import write_text_model

WORDS = ["red", "green", "blue", "shirt", "shoe", "hat", "bread", "milk", "tea", "cup", "bowl", "pan"]
ITEMS = [Item(item_id=f"item {n}", title=f"{WORDS[n]} {WORDS[5 * n % 12]}") for n in range(12)]
VIEW, PURCHASE, SEARCH = (EVENT_TYPES.index(name) for name in ("view", "purchase", "search"))
HORIZON_DAYS = 2.0
FIRST_ORDER, FIRST_END, CHILD_END = 8, 16, 20
"""Days: where the first release's list ranker begins, where its training ends, and where its child's ends."""


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def log() -> EventLog:
    """Two events an hour by one of 8 users: views, every third time a purchase, and some searches."""
    random, number = np.random.default_rng(0), np.arange(CHILD_END * 48)
    is_search = number % 12 == 7
    return EventLog.from_columns(
        EventColumns(
            user=random.integers(8, size=len(number)),
            item=np.where(is_search, NONE, random.integers(len(ITEMS), size=len(number))),
            type=np.where(is_search, SEARCH, np.where(number % 3 == 2, PURCHASE, VIEW)),
            ts=number * (DAY_MS // 48),
            session=np.full(len(number), NONE),
            query=np.where(is_search, 0, NONE),
        ),
        user_ids=tuple(f"user {number}" for number in range(8)),
        item_ids=tuple(item.item_id for item in ITEMS),
        queries=("red hat",),
    )


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> ReleaseCandidateConfig:
    return ReleaseCandidateConfig(
        threads=1,
        quantise_text=False,
        text=TextConfig(model=str(write_text_model(tmp_path_factory.mktemp("bert"), WORDS))),
        dims=16,
        training=Training(epochs=3, catching_up_epochs=3, child_epochs=3, negatives=32, events_per_step=64),
        strategies=(TextGeometry(),),
        list_ranker=ListRankerConfig(epochs=1),
        comparison_points=0,
        purchase=PurchaseConfig(examples=PurchaseExampleConfig(horizon_days=HORIZON_DAYS), epochs=1),
    )


@pytest.fixture(scope="module")
def first(log: EventLog, config: ReleaseCandidateConfig, tmp_path_factory: pytest.TempPathFactory) -> Release:
    benchmark = OfflineBenchmark("first", log, ITEMS, FIRST_ORDER * DAY_MS, FIRST_END * DAY_MS, config)
    folder = tmp_path_factory.mktemp("releases")
    return make_release(benchmark, folder / "first", folder)[0]


@dataclass(frozen=True)
class Child:
    """A child's pipeline, and the moments that its purchase head learned on."""

    candidate: ReleaseCandidate
    moments: UnseenMoments
    folder: Path


def child_of(
    parent: Release, log: EventLog, config: ReleaseCandidateConfig, folder: Path, purchases_from: int = 10
) -> Child:
    """All days since the parent are for the list ranker, and the horizon leaves few of them for the purchase head."""
    recorded: list[UnseenMoments] = []
    original = release_candidate.unseen_moments

    def record(*arguments: Any) -> UnseenMoments:
        recorded.append(original(*arguments))
        return recorded[-1]

    new = FIRST_END * DAY_MS
    inputs = PipelineInputs(log, ITEMS, new, parent, new, purchases_from * DAY_MS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(release_candidate, "unseen_moments", record)
        candidate = make_release_candidate(inputs, folder, cache=folder.parent, config=config)
    return Child(candidate, recorded[0], folder)


@pytest.fixture(scope="module")
def child(
    first: Release, log: EventLog, config: ReleaseCandidateConfig, tmp_path_factory: pytest.TempPathFactory
) -> Child:
    return child_of(first, log, config, tmp_path_factory.mktemp("children") / "child")


def item_vectors(release: Release, weights: str, text_vectors: np.ndarray) -> np.ndarray:
    """Vectors of all items by an encoder of the release."""
    numbers = item_numbers(release)
    encoder = load_encoder(load_file(release.folder / weights), len(numbers) + 1).eval()
    number = torch.tensor([numbers.get(item.item_id, 0) for item in ITEMS])
    with torch.no_grad():
        vectors: np.ndarray = encoder.item(torch.from_numpy(text_vectors), number).numpy()
    return vectors


def test_the_encoder_of_the_childs_moments_is_the_one_that_its_parent_held_back(child: Child, first: Release) -> None:
    live = child.moments.ranker.live
    texts = live.text.encode([item.title for item in ITEMS])
    vectors = live.item.encode([item.item_id for item in ITEMS], texts)
    np.testing.assert_allclose(vectors, item_vectors(first, HELD_BACK_WEIGHTS, texts), atol=1e-5)
    assert np.abs(vectors - item_vectors(first, ENCODER_WEIGHTS, texts)).max() > 1e-3


def test_the_childs_moments_begin_as_wanted_and_never_before_the_held_back_encoder_ends(
    child: Child, first: Release, log: EventLog, config: ReleaseCandidateConfig, tmp_path: Path
) -> None:
    assert child.moments.from_ms == 10 * DAY_MS
    earlier = child_of(first, log, config, tmp_path / "earlier", purchases_from=2)
    assert earlier.moments.from_ms == first.manifest.window.order_from == FIRST_ORDER * DAY_MS


def test_the_co_visits_of_the_childs_moments_know_none_of_them(
    child: Child, first: Release, log: EventLog, config: ReleaseCandidateConfig, tmp_path: Path
) -> None:
    """From the first moment to the parent's end everybody sees one item only: the table is the same."""
    moments = (log.ts >= child.moments.from_ms) & (log.ts < FIRST_END * DAY_MS)
    other = replace(log, item=np.where(moments & (log.item != NONE), 3, log.item).astype(np.int32))
    changed = child_of(first, other, config, tmp_path / "changed").moments.ranker
    ranker = child.moments.ranker
    for item in ITEMS:
        row = ranker.item_ids.rows([item.item_id])
        assert np.array_equal(ranker.neighbours.columns.weights[row], changed.neighbours.columns.weights[row])


def test_the_childs_moments_are_ranked_by_its_own_list_ranker(child: Child) -> None:
    features = np.random.default_rng(0).normal(size=(5, len(child.candidate.features))).astype(np.float32)
    scores = child.moments.ranker.live.order.score(features)
    np.testing.assert_array_equal(scores, OnnxListRanker(UnverifiedRelease(child.folder)).score(features))


def test_the_head_is_measured_on_the_items_of_slates(child: Child, log: EventLog) -> None:
    measured = child.candidate.heads["purchase"]
    labelled = np.count_nonzero((log.ts >= 10 * DAY_MS) & (log.ts <= log.ts[-1] - HORIZON_DAYS * DAY_MS))
    assert measured["examples"] <= 0.21 * labelled * 12, "a fifth of the moments, with all items at most"
    assert 0 < measured["purchases"] < measured["examples"]
    assert "kept_because" not in measured


def test_a_first_release_learns_in_the_list_rankers_window(first: Release) -> None:
    assert first.manifest.heads["purchase"]["purchases"] > 0
    assert HELD_BACK_WEIGHTS in first.manifest.files


def test_a_parent_that_held_no_encoder_back_leaves_the_new_days(
    first: Release, log: EventLog, config: ReleaseCandidateConfig, tmp_path: Path
) -> None:
    files = {name: digest for name, digest in first.manifest.files.items() if name != HELD_BACK_WEIGHTS}
    older = Release(first.folder, msgspec.structs.replace(first.manifest, files=files))
    assert child_of(older, log, config, tmp_path / "child").moments.from_ms == FIRST_END * DAY_MS


def test_a_child_that_can_train_no_head_keeps_its_parents(
    first: Release, log: EventLog, config: ReleaseCandidateConfig, tmp_path: Path
) -> None:
    demanding = replace(config, purchase=replace(config.purchase, min_purchases=1_000_000))
    child = child_of(first, log, demanding, tmp_path / "child")
    kept = child.candidate.heads["purchase"]
    assert kept["trained_by"] == first.manifest.id
    assert "at least 1000000 must be" in kept["kept_because"]
    assert (child.folder / PURCHASE_HEAD).read_bytes() == first.read(PURCHASE_HEAD)
    assert child.candidate.absent == {}


def test_a_log_without_purchases_holds_no_encoder_back(
    log: EventLog, config: ReleaseCandidateConfig, tmp_path: Path
) -> None:
    views = log.take(log.type == VIEW)
    benchmark = OfflineBenchmark("views", views, ITEMS, FIRST_ORDER * DAY_MS, FIRST_END * DAY_MS, config)
    assert HELD_BACK_WEIGHTS not in make_release(benchmark, tmp_path / "views", tmp_path)[0].manifest.files
