"""The pipeline on small logs and a small parent: files and metrics of the release candidate."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from anabranch import release
from anabranch.co_visit.text_prior import TEXT_NEIGHBOURS, TextPrior
from anabranch.co_visit_rule import CoVisitRule
from anabranch.messages import EVENT_TYPES, Item
from anabranch.ranking.inference.purchase_head import OnnxPurchaseHead
from anabranch.ranking.pipeline.features import FEATURES
from anabranch.ranking.types import Vectors
from anabranch.release import PURCHASE_HEAD, Release, UnverifiedRelease
from models.co_visit import text_neighbours
from models.co_visit.model import CoVisitModel
from models.co_visit.text_neighbours import text_prior
from models.data.event_log import DAY_MS, NONE, EventColumns, EventLog
from models.data.purchase_examples import PurchaseExampleConfig
from models.networks.encoder import EncoderConfig, SharedEncoder
from models.networks.list_ranker import ListRankerConfig
from models.networks.purchase_head import PurchaseConfig
from models.networks.stored_names import stored_settings
from models.networks.text_transformer import TextConfig
from models.offline.offline_ranker import neighbour_table
from models.pipeline.catalogue import DOMAINS
from models.pipeline.config import PipelineInputs, ReleaseCandidateConfig
from models.pipeline.encoder_stage import ENCODER_WEIGHTS
from models.pipeline.purchase_stage import HELD_BACK_WEIGHTS
from models.pipeline.release_candidate import ReleaseCandidate, make_release_candidate
from models.sharing.strategies.adapters import DomainAdapters
from models.sharing.training import Training
from models.training_curves import Curve, no_curve
from tests.support.releases import TEXT_DIMS, write_release
from tests.support.training_data import SEARCH, with_searches

ITEMS = [Item(item_id=f"item {number}", title=f"thing {number}") for number in range(12)]
VIEW, PURCHASE = EVENT_TYPES.index("view"), EVENT_TYPES.index("purchase")
EVENTS = 600
HALF_MS = EVENTS // 2 * (DAY_MS // 24)
"""Time of the event in the middle of the log, an event an hour."""
ADAPTED = {"text": stored_settings(TextConfig(adapter="lora"))}
CONFIG = ReleaseCandidateConfig(
    threads=1,
    dims=32,
    training=Training(epochs=1, catching_up_epochs=1, child_epochs=1, negatives=32),
    list_ranker=ListRankerConfig(epochs=1),
    purchase=PurchaseConfig(examples=PurchaseExampleConfig(horizon_days=2.0), epochs=1),
)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """`make_release_candidate` sets torch's threads for the whole process."""
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def log() -> EventLog:
    """An event an hour by one of 8 users: views, and every third time a purchase."""
    random = np.random.default_rng(0)
    return EventLog.from_columns(
        EventColumns(
            random.integers(8, size=EVENTS),
            random.integers(len(ITEMS), size=EVENTS),
            np.where(np.arange(EVENTS) % 3 == 2, PURCHASE, VIEW),
            np.arange(EVENTS) * (DAY_MS // 24),
            np.full(EVENTS, -1),
        ),
        user_ids=tuple(f"user {number}" for number in range(8)),
        item_ids=tuple(item.item_id for item in ITEMS),
    )


@pytest.fixture(scope="module")
def parent(tmp_path_factory: pytest.TempPathFactory) -> Release:
    folder = tmp_path_factory.mktemp("releases") / "parent"
    manifest = write_release(folder)
    save_file(SharedEncoder(EncoderConfig(items=1, text_dims=TEXT_DIMS)).state_dict(), folder / ENCODER_WEIGHTS)
    release.write(folder, msgspec.structs.replace(manifest, files=release.digests(folder), strategy=ADAPTED))
    return release.open_release(folder)


def make(log: EventLog, parent: Release, folder: Path, curve: Curve = no_curve) -> ReleaseCandidate:
    return make_release_candidate(
        PipelineInputs(log, ITEMS, HALF_MS, parent), folder, cache=folder.parent, config=CONFIG, curve=curve
    )


@pytest.fixture(scope="module")
def points_seen() -> list[tuple[str, float, int]]:
    """Points that the curve writer received."""
    return []


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("made") / "candidate"


@pytest.fixture(scope="module")
def report(log: EventLog, parent: Release, folder: Path, points_seen: list[tuple[str, float, int]]) -> ReleaseCandidate:
    return make(log, parent, folder, lambda name, value, step: points_seen.append((name, value, step)))


def test_the_losses_of_every_training_are_passed_on_and_recorded(
    report: ReleaseCandidate, points_seen: list[tuple[str, float, int]]
) -> None:
    assert {name for name, _, _ in points_seen} == {
        "sharing/loss_log",
        "sharing/loss_rank_distillation",
        "order/loss",
        "purchase head/loss",
        "catching up/loss_log",
        "catching up/loss_rank_distillation",
        "catching up/loss_replay",
    }
    for name, points in report.curves.items():
        assert points == [(step, value) for which, value, step in points_seen if which == name]
        assert points[0][0] == 1
    assert report.measured["loss_log"] == pytest.approx(np.mean([y for _, y in report.curves["sharing/loss_log"]]))


def test_a_child_keeps_its_parents_dimensions(report: ReleaseCandidate) -> None:
    assert report.dims == EncoderConfig(items=1).dims != CONFIG.dims


def test_a_childs_manifest_names_the_adapter_of_its_parents_text_transformer(report: ReleaseCandidate) -> None:
    assert report.strategy["name"].split("+")[0] == "text_lora"
    assert report.strategy["text"] == ADAPTED["text"]


def test_a_child_whose_list_ranker_window_has_all_new_events_is_trained_once(
    log: EventLog, parent: Release, tmp_path: Path
) -> None:
    half, points_seen = int(log.ts[EVENTS // 2]), set()
    report = make_release_candidate(
        PipelineInputs(log, ITEMS, half, parent, new_since_ms=half),
        tmp_path / "candidate",
        cache=tmp_path,
        config=CONFIG,
        curve=lambda name, value, step: points_seen.add(name),
    )
    assert {name for name in points_seen if "order" not in name and "purchase" not in name} == {
        "sharing/loss_log",
        "sharing/loss_rank_distillation",
        "sharing/loss_replay",
    }
    assert not [name for name in report.measured if "catching_up" in name]


def test_every_seed_model_is_compared_with_the_shared_ranking_in_the_list_rankers_window(
    report: ReleaseCandidate,
) -> None:
    comparison = report.seed_comparison
    assert comparison is not None
    assert tuple(comparison.seeds) == report.seeds
    assert comparison.events["overall"] == 30, "a tenth of the window's 300 events"


def test_seed_models_are_not_compared_on_events_that_trained_the_parent(
    log: EventLog, parent: Release, tmp_path: Path
) -> None:
    learned = msgspec.structs.replace(parent.manifest.window, gate_from=int(log.ts[EVENTS - 100]))
    parent = replace(parent, manifest=msgspec.structs.replace(parent.manifest, window=learned))
    comparison = make(log, parent, tmp_path / "candidate").seed_comparison
    assert comparison is not None
    assert comparison.events["overall"] == 10


def make_in_domains(
    log: EventLog, domains: list[str], parent: Release, folder: Path, config: ReleaseCandidateConfig
) -> ReleaseCandidate:
    """The items are in the domains by turns."""
    items = [msgspec.structs.replace(item, domain=domains[at % len(domains)]) for at, item in enumerate(ITEMS)]
    half = int(log.ts[EVENTS // 2])
    return make_release_candidate(PipelineInputs(log, items, half, parent), folder, cache=folder.parent, config=config)


def test_a_log_with_purchases_gives_a_candidate_with_a_measured_purchase_head(
    report: ReleaseCandidate, folder: Path
) -> None:
    measured = report.heads["purchase"]
    assert report.absent == {}
    assert report.parity[PURCHASE_HEAD] < 1e-5
    assert measured["horizon_days"] == 2
    assert 0 < measured["purchases"] < measured["examples"]
    assert 0 <= measured["roc_auc"] <= 1
    assert msgspec.json.decode(msgspec.json.encode(report.heads)) == report.heads
    features = np.random.default_rng(0).normal(size=(2, 5, len(FEATURES))).astype(np.float32)
    assert OnnxPurchaseHead(UnverifiedRelease(folder)).probability(features).shape == (2, 5)


def test_a_log_without_purchases_gives_a_candidate_without_the_head_and_the_reason(
    log: EventLog, parent: Release, tmp_path: Path
) -> None:
    report = make(replace(log, type=np.full_like(log.type, VIEW)), parent, tmp_path / "candidate")
    assert report.heads == {}
    assert report.absent == {"purchase": "no event is a purchase"}
    assert "order.onnx" in report.parity
    assert not (tmp_path / "candidate" / PURCHASE_HEAD).exists()


def test_a_child_numbers_domains_as_its_parent_did_and_adapts_new_ones(
    log: EventLog, parent: Release, tmp_path: Path
) -> None:
    config = replace(CONFIG, strategies=(DomainAdapters(),))
    first, second = tmp_path / "first", tmp_path / "second"
    adapted = make_in_domains(log, ["toys", "food"], parent, first, config)
    made = Release(first, msgspec.structs.replace(parent.manifest, files=release.digests(first)))
    widened = make_in_domains(log, ["books", "food", "toys"], made, second, config)
    assert [report.measured["adapted_domains"] for report in (adapted, widened)] == [2, 3]
    assert msgspec.json.decode(made.read(DOMAINS)) == {"toys": 1, "food": 2}
    assert msgspec.json.decode((second / DOMAINS).read_bytes()) == {"toys": 1, "food": 2, "books": 3}
    assert widened.parity["item.onnx"] < 1e-5


@pytest.mark.usefixtures("report")
def test_the_encoder_trains_on_searches_before_and_in_the_list_rankers_window(
    log: EventLog, parent: Release, folder: Path, tmp_path: Path
) -> None:
    """The type vector of searches moves by training on them; without them only weight decay moves it."""
    searching = with_searches(log, log.item)
    early = searching.take((searching.item != NONE) | (searching.ts < HALF_MS - 1000))
    late = searching.take((searching.item != NONE) | (searching.ts >= HALF_MS))
    for part, trained in ((early, HELD_BACK_WEIGHTS), (late, ENCODER_WEIGHTS)):
        made = tmp_path / trained
        assert make(part, parent, made).parity["scan"] < 1e-4
        assert type_moved(made / trained, parent) > 10 * type_moved(folder / trained, parent)


def type_moved(weights: Path, parent: Release) -> float:
    """By how much the type vector of searches differs from the parent's."""
    before, after = (load_file(file)["step.type_vector.weight"] for file in (parent.folder / ENCODER_WEIGHTS, weights))
    return float((after - before)[SEARCH].norm())


def test_the_list_ranker_learns_from_the_co_visits_that_rankers_will_have(log: EventLog, tmp_path: Path) -> None:
    """Only pairs of all users are published here, as most pairs have more than a few users."""
    config = replace(CONFIG, co_visits=CoVisitRule(min_users=8), keep_provisional=True, comparison_points=0)
    inputs = PipelineInputs(log, ITEMS, HALF_MS)
    candidate = make_release_candidate(inputs, tmp_path / "made", cache=tmp_path, config=config)
    learned_from = candidate.provisional
    assert learned_from is not None
    published = CoVisitModel(config.co_visits).fit(inputs.encoder_log).table(config.policy.neighbours)
    served = neighbour_table(published, learned_from.item_ids, log, config.policy.neighbours)
    of_single_users = CoVisitModel(replace(config.co_visits, min_users=1)).fit(inputs.encoder_log).table()
    assert (of_single_users.neighbours >= 0).sum() > (published.neighbours >= 0).sum() > 0
    for known, expected in zip(learned_from.neighbours.columns, served.columns, strict=True):
        np.testing.assert_array_equal(known, expected)


def test_text_neighbours_are_a_file_where_the_co_visit_rule_has_a_text_prior(log: EventLog, tmp_path: Path) -> None:
    inputs = PipelineInputs(log=log, items=ITEMS, order_from_ms=HALF_MS)
    for folder, prior in ((tmp_path / "with", 3.0), (tmp_path / "without", 0.0)):
        config = replace(CONFIG, co_visits=CoVisitRule(text_prior=prior), comparison_points=0)
        make_release_candidate(inputs, folder, cache=tmp_path / "cache", config=config)
        assert (folder / TEXT_NEIGHBOURS).exists() == bool(prior)


def test_neighbours_by_text_are_found_once_in_a_training(
    log: EventLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For their file, the co-visits that serve, and the seed model's fit to each fold of the teachers."""
    found: list[TextPrior] = []

    def counted(text_vectors: Vectors) -> TextPrior:
        found.append(text_prior(text_vectors))
        return found[-1]

    monkeypatch.setattr(text_neighbours, "text_prior", counted)
    config = replace(CONFIG, co_visits=CoVisitRule(text_prior=3.0), comparison_points=0)
    assert config.distillation is not None
    inputs = PipelineInputs(log, ITEMS, HALF_MS)
    candidate = make_release_candidate(inputs, tmp_path / "made", cache=tmp_path, config=config)
    assert len(found) == 1
    assert candidate.text_neighbours is found[0]
