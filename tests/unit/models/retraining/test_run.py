"""What a run gives the rankers that it drives offline: the settings of those that serve."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from msgspec import structs

from anabranch import release
from anabranch.messages import Event, Item
from anabranch.ranking.inference.item_encoder import TextEncoder
from anabranch.ranking.types import Vectors
from anabranch.ranking.user_state.layout import StateLayout
from anabranch.release import DataWindow, Release
from anabranch.settings import Settings
from models.data.event_store import EventStore
from models.offline.catalogue_history import CatalogueHistory, ItemVersion
from models.pipeline.config import PipelineInputs
from models.pipeline.data_kind import KindDecision
from models.pipeline.presets import preset
from models.retraining import run as run_module
from models.retraining.run import JobConfig, RetrainingRun
from models.retraining.workspace import Workspace
from tests.support.releases import write_release

ITEMS = [Item(item_id=f"item {number}", title=f"item {number}") for number in range(40)]
GATE_FROM = 300
TEXTS = np.zeros((len(ITEMS), 16), np.float32)
LAYOUTS = {
    "of the defaults": {},
    "small": {"slate_size": 5, "history_length": 3, "own_items": 2},
    "large": {"slate_size": 40, "history_length": 200, "own_items": 300},
}


def write(folder: Path, random_seed: int, **window: int) -> Release:
    manifest = write_release(folder, folder.name, [item.item_id for item in ITEMS], random_seed)
    bounds = {"train_from": 0, "order_from": 0, "gate_from": GATE_FROM, "gate_to": GATE_FROM, "events": 0}
    manifest = structs.replace(manifest, window=DataWindow(**bounds | window))
    release.write(folder, manifest)
    return Release(folder, manifest)


def stored(folder: Path) -> EventStore:
    """Twelve users who look at forty items, most of them at a few."""
    random = np.random.default_rng(0)
    store = EventStore.open(folder)
    events = [
        Event(
            event_id=str(number),
            user_id=f"user {random.integers(12)}",
            type="view",
            item_id=f"item {random.zipf(1.2) % len(ITEMS)}",
            ts=number,
        )
        for number in range(600)
    ]
    store.append(events, {})
    return store


def run(folder: Path, incumbent: Release, **settings: Any) -> RetrainingRun:
    given = Settings(data_dir=folder, min_pair_users=1, **settings)
    store = stored(folder / f"journal {incumbent.manifest.window.gate_to}")
    return RetrainingRun(
        settings=given,
        workspace=Workspace(folder, store, None),
        config=JobConfig(),
        bar=lambda title, total: nullcontext(lambda n: None),
        events=store.log([item.item_id for item in ITEMS]),
        items=ITEMS,
        catalogue=CatalogueHistory(),
        kind=KindDecision.named("baskets"),
        candidate_config=preset("baskets").for_rankers(given),
        incumbent=incumbent,
    )


@pytest.mark.parametrize("settings", LAYOUTS.values(), ids=LAYOUTS)
def test_every_contender_has_slates_of_the_configured_length(tmp_path: Path, settings: dict[str, int]) -> None:
    incumbent, candidate = write(tmp_path / "r1", 0), write(tmp_path / "r2", 1)
    this = run(tmp_path, incumbent, **settings)
    paired = this.evaluate(candidate, this.fit_co_visits(this.events.split(GATE_FROM)[0], TEXTS))
    assert paired.incumbent is not None
    length = this.settings.slate_size
    for ranks in (paired.release_candidate, paired.incumbent, paired.co_visit):
        assert min(length, 20) - 3 <= ranks.max() <= length


def test_training_reads_user_states_of_the_configured_layout(tmp_path: Path) -> None:
    settings = Settings(slate_size=5, history_length=3, own_items=2, dedupe_window=7, min_pair_users=2)
    config = preset("histories").for_rankers(settings)
    assert config.layout == StateLayout.from_settings(settings) == (3, 2, 5, 7, config.layout.half_life_s)
    assert config.co_visits.min_users == 2
    assert config.policy.exclude_seen, "what the settings leave open, the kind of data decides"


def test_the_incumbent_has_served_since_its_own_gate_and_the_candidate_begins(tmp_path: Path) -> None:
    """With a short history, a state that has gone on remembers more than one that is encoded from the history."""
    this = run(tmp_path, write(tmp_path / "r1", 0, gate_from=50, gate_to=100), history_length=2)
    ranks = {}
    for served_until in (100, GATE_FROM):
        window = structs.replace(this.incumbent.manifest.window, gate_to=served_until)
        incumbent = Release(tmp_path / "r1", structs.replace(this.incumbent.manifest, window=window))
        co_visit = this.fit_co_visits(this.events.split(GATE_FROM)[0], TEXTS)
        candidate = write(tmp_path / f"r{served_until}", 0)  # the same weights
        later = run(tmp_path, incumbent, history_length=2)
        ranks[served_until] = later.evaluate(candidate, co_visit)
    assert (ranks[GATE_FROM].incumbent == ranks[GATE_FROM].release_candidate).all()
    assert (ranks[100].incumbent != ranks[100].release_candidate).any()


def test_training_knows_how_the_catalogue_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = ItemVersion(7, "item 3", None)
    history = CatalogueHistory.from_versions([ItemVersion(1, "item 3", ITEMS[3]), gone])
    given: list[PipelineInputs] = []
    monkeypatch.setattr(run_module, "make_release_candidate", lambda inputs, *_, **__: given.append(inputs))
    window = DataWindow(train_from=0, order_from=200, gate_from=GATE_FROM, gate_to=600, events=600)
    this = replace(run(tmp_path, write(tmp_path / "r1", 0)), catalogue=history)
    this.train(window, tmp_path / "r2", lambda name, value, step: None)
    assert given[0].catalogue is history


def test_every_text_of_the_catalogue_and_its_changes_is_embedded_once_in_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Candidate and incumbent have one text transformer."""
    embedded: list[str] = []
    encode = TextEncoder.encode

    def counted(self: TextEncoder, texts: Sequence[str], *done: Any) -> Vectors:
        embedded.extend(texts)
        return encode(self, texts, *done)

    monkeypatch.setattr(TextEncoder, "encode", counted)
    renamed = Item(item_id="item 3", title="another title")
    history = CatalogueHistory.from_versions([ItemVersion(1, "item 3", renamed), ItemVersion(7, "item 3", ITEMS[3])])
    incumbent, candidate = write(tmp_path / "r1", 0), write(tmp_path / "r2", 0)
    this = replace(run(tmp_path, incumbent), catalogue=history)
    this.evaluate(candidate, this.fit_co_visits(this.events.split(GATE_FROM)[0], TEXTS))
    assert "another title" in embedded
    assert len(embedded) == len(set(embedded))
