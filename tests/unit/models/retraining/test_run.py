"""What a run gives the rankers that it drives offline: the settings of those that serve."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from msgspec import structs

from anabranch import release
from anabranch.co_visit.table import CoVisitTable, neighbour_messages
from anabranch.co_visit.text_prior import NO_TEXTS
from anabranch.messages import Event, Item, Neighbours
from anabranch.placements import DISCOVER, FOR_YOU, Placement, Rotation
from anabranch.ranking.inference.item_encoder import TextEncoder
from anabranch.ranking.types import Vectors
from anabranch.ranking.user_state.layout import StateLayout
from anabranch.release import DataWindow, Manifest, Release
from anabranch.release_notices import ReleaseNotices
from anabranch.settings import Settings
from models.co_visit.drift import TableChange
from models.co_visit.model import CoVisitModel
from models.data.event_log import EventLog
from models.data.event_store import EventStore
from models.evaluation.contenders import PairedRanks
from models.gate.window import ComparedWith, GateWindow
from models.metrics.bootstrap import Interval
from models.offline.catalogue_history import CatalogueHistory, ItemVersion
from models.pipeline.config import PipelineInputs
from models.pipeline.data_kind import KindDecision
from models.pipeline.presets import preset
from models.pipeline.release_candidate import ReleaseCandidate
from models.retraining import run as run_module
from models.retraining.announcements import release_notice
from models.retraining.folder_lock import locked
from models.retraining.published_co_visits import NewCoVisits, PublishedCoVisits
from models.retraining.run import JobConfig, RetrainingRun
from models.retraining.servable_releases import earlier_releases
from models.retraining.workspace import Workspace
from models.training_curves import no_curves
from tests.support.releases import write_release
from tests.support.reports import report

ITEMS = [Item(item_id=f"item {number}", title=f"item {number}") for number in range(40)]
GATE_FROM = 300
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
    given = Settings(data_dir=folder, min_pair_users=1, live_neighbours=False, **settings)
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


def ranked(this: RetrainingRun, candidate: Release, earlier: Sequence[Release] = ()) -> PairedRanks:
    """The gate's window, ranked."""
    gate = this.gate_window(GATE_FROM)
    co_visit = this.fit_co_visits(this.events.split(GATE_FROM)[0], NO_TEXTS)
    return gate.rank(candidate, ComparedWith(co_visit, gate.fitted(co_visit), earlier=earlier))


@pytest.mark.parametrize("settings", LAYOUTS.values(), ids=LAYOUTS)
def test_every_contender_has_slates_of_the_configured_length(tmp_path: Path, settings: dict[str, int]) -> None:
    incumbent, candidate = write(tmp_path / "r1", 0), write(tmp_path / "r2", 1)
    this = run(tmp_path, incumbent, **settings)
    paired = ranked(this, candidate)
    assert paired.incumbent is not None
    length = this.settings.slate_size
    table = paired.baselines["co_visit"]
    for ranks in (paired.release_candidate, paired.incumbent, table):
        assert min(length, 20) - 3 <= ranks.max() <= length
    assert all(ranks.max() <= length for ranks in paired.baselines.values())


def test_every_release_is_ranked_on_the_placements_of_the_settings(tmp_path: Path) -> None:
    incumbent, candidate, earlier = (write(tmp_path / f"r{number}", number) for number in (1, 2, 3))
    on_discover = ranked(run(tmp_path, incumbent, placements=(FOR_YOU, DISCOVER)), candidate, [earlier]).placements
    assert list(on_discover) == ["discover"]
    paired = on_discover["discover"]
    assert paired.incumbent is not None
    rankings = (paired.release_candidate, paired.incumbent, *paired.earlier.values(), *paired.baselines.values())
    assert len(rankings) == 3 + 5
    assert all(len(ranks) == len(paired.user) > 0 for ranks in rankings)


def test_training_reads_user_states_of_the_configured_layout(tmp_path: Path) -> None:
    settings = Settings(
        slate_size=5,
        history_length=3,
        own_items=2,
        dedupe_window=7,
        min_pair_users=2,
        placements=(Placement(name="for_you", rotation=Rotation()),),
        impression_items=8,
        disliked_items=9,
    )
    config = preset("histories").for_rankers(settings)
    assert config.layout == StateLayout.from_settings(settings)
    assert config.layout[:7] == (3, 2, 5, ("for_you",), 7, 8, 9)
    assert config.co_visits.min_users == 2
    assert config.policy.exclude_seen, "what the settings leave open, the kind of data decides"


def test_the_incumbent_has_served_since_its_own_gate_and_the_candidate_begins(tmp_path: Path) -> None:
    """With a short history, a state that has gone on remembers more than one that is encoded from the history."""
    this = run(tmp_path, write(tmp_path / "r1", 0, gate_from=50, gate_to=100), history_length=2)
    ranks = {}
    for served_until in (100, GATE_FROM):
        window = structs.replace(this.incumbent.manifest.window, gate_to=served_until)
        incumbent = Release(tmp_path / "r1", structs.replace(this.incumbent.manifest, window=window))
        candidate = write(tmp_path / f"r{served_until}", 0)  # the same weights
        ranks[served_until] = ranked(run(tmp_path, incumbent, history_length=2), candidate)
    assert (ranks[GATE_FROM].incumbent == ranks[GATE_FROM].release_candidate).all()
    assert (ranks[100].incumbent != ranks[100].release_candidate).any()


def test_the_gate_tolerates_the_slices_that_the_settings_name_and_no_others(tmp_path: Path) -> None:
    incumbent = write(tmp_path / "r1", 0)
    assert run(tmp_path, incumbent).rule.tolerates == frozenset()
    named = run(tmp_path, incumbent, gate_tolerates="cold_items, domain:FROZEN FOOD").rule
    assert named.tolerates == {"cold_items", "domain:FROZEN FOOD"}


def test_a_release_that_served_before_the_incumbent_is_compared_with(tmp_path: Path) -> None:
    earlier, incumbent, candidate = (write(tmp_path / f"r{seed}", seed) for seed in range(3))
    paired = ranked(run(tmp_path, incumbent), candidate, [earlier])
    assert (paired.earlier["r0"] != paired.release_candidate).any()


def rounds(seed: int = 0) -> list[Event]:
    """Sixty users who go round the items in order, each from a place of their own, and visit twelve of them."""
    starts = np.random.default_rng(seed).integers(40, size=60)
    return [
        Event(
            event_id=f"{step} {user}", user_id=f"user {user}", type="view", item_id=f"item {(start + step) % 40}", ts=ts
        )
        for ts, (step, user, start) in enumerate(
            (step, user, start) for step in range(12) for user, start in enumerate(starts.tolist())
        )
    ]


@pytest.fixture
def in_rounds(tmp_path: Path) -> RetrainingRun:
    this = run(tmp_path, write(tmp_path / "r1", 0))
    store = EventStore.open(tmp_path / "rounds")
    store.append(rounds(), {})
    return replace(this, events=store.log([item.item_id for item in ITEMS]))


def published(this: RetrainingRun, events: EventLog) -> dict[str, Neighbours]:
    """The rows of the co-visit table of some events."""
    table = this.fit_co_visits(events, NO_TEXTS).table(20)
    return {row.item_id: row for row in neighbour_messages(table, this.events.item_ids, 0)}


def shuffled(log: EventLog) -> EventLog:
    """The same visits, of items in no order."""
    return replace(log, item=np.random.default_rng(1).permutation(log.item))


def test_a_co_visit_table_that_lowers_the_incumbents_figures_is_found(in_rounds: RetrainingRun) -> None:
    before, gate = in_rounds.events.split(500)[0], in_rounds.gate_window(500)
    good, bad = (in_rounds.fit_co_visits(log, NO_TEXTS) for log in (before, shuffled(before)))
    harm = gate.harm_of(bad, published(in_rounds, before))
    assert harm is not None
    assert harm.high < 0
    text = str(TableChange(0.1, 0, harm))
    assert text.startswith("it is held back: with it the NDCG@20 of the live release would change by -")
    assert gate.harm_of(good, published(in_rounds, shuffled(before))) is None, "a better one does no harm"
    assert gate.harm_of(good, published(in_rounds, before)) is None, "nor does the same"
    assert gate.harm_of(bad, {}) is None, "without a published table there is nothing to keep"


def test_new_co_visits_are_tried_on_events_that_neither_table_has_learned(
    in_rounds: RetrainingRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[tuple[int, int]] = []

    def harm_of(gate: GateWindow, co_visit: CoVisitModel, published: object) -> None:
        tried.append((len(fitted[-1]), gate.start))

    fitted: list[EventLog] = []
    monkeypatch.setattr(GateWindow, "harm_of", harm_of)
    monkeypatch.setattr(RetrainingRun, "fit_co_visits", lambda this, events, texts: fitted.append(events))
    window = DataWindow(train_from=0, order_from=200, gate_from=GATE_FROM, gate_to=700, events=720)
    in_rounds.harm_of_co_visits(window, NO_TEXTS, {})
    assert not tried, "what the published table has learned is not known"
    for learned_until_ms in (GATE_FROM, 600):
        PublishedCoVisits(learned_until_ms=learned_until_ms).write(in_rounds.settings.data_dir / "reshare")
        in_rounds.harm_of_co_visits(window, NO_TEXTS, {})
    assert tried == [(500, 500), (650, 650)]


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of rows of each co-visit table that is published; none was before."""
    rows_of_tables: list[int] = []

    def publish(settings: Settings, rows: Iterable[Neighbours], advance: object) -> None:
        rows_of_tables.append(len(list(rows)))

    monkeypatch.setattr(run_module.topics_io, "publish_neighbours", publish)
    monkeypatch.setattr(run_module.topics_io, "read_neighbours", lambda settings: {})
    return rows_of_tables


@pytest.fixture
def can_gate(in_rounds: RetrainingRun, monkeypatch: pytest.MonkeyPatch) -> Iterator[RetrainingRun]:
    """A run whose release candidate is not trained, and not announced."""

    def describe(this: RetrainingRun, candidate: ReleaseCandidate, folder: Path, window: DataWindow) -> Manifest:
        folder.rmdir()
        return write(folder, 1, gate_from=window.gate_from, gate_to=window.gate_to).manifest

    monkeypatch.setattr(RetrainingRun, "train", lambda *_: report().candidate)
    monkeypatch.setattr(RetrainingRun, "describe", describe)
    monkeypatch.setattr(run_module, "read_release_notices", lambda settings: ReleaseNotices())
    for name in ("announce", "go_live"):
        monkeypatch.setattr(run_module, name, lambda *_: None)
    folder = in_rounds.settings.data_dir
    with locked(folder / "lock", "tests") as lock:
        yield replace(in_rounds, workspace=Workspace(folder / "releases", EventStore.open(folder / "rounds"), lock))


@pytest.mark.parametrize("is_live", [False, True])
def test_a_run_makes_a_co_visit_table_of_all_events_only_where_it_publishes_it(
    can_gate: RetrainingRun, sent: list[int], is_live: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The gate ranks with the table of the events before its window."""
    tables, changes = list[CoVisitTable](), list[TableChange]()
    make_table = CoVisitModel.table

    def counted(self: CoVisitModel, width: int) -> CoVisitTable:
        tables.append(make_table(self, width))
        return tables[-1]

    monkeypatch.setattr(CoVisitModel, "table", counted)
    settings = msgspec.structs.replace(can_gate.settings, live_neighbours=is_live)
    window = DataWindow(train_from=0, order_from=20, gate_from=GATE_FROM, gate_to=719, events=720)
    this = replace(can_gate, settings=settings, show_table_change=changes.append)
    this.gate_candidate(window, ReleaseNotices(), no_curves)
    assert len(tables) == (1 if is_live else 2)
    assert len(sent) == len(changes) == (0 if is_live else 1)


def test_where_the_neighbours_job_publishes_the_table_no_run_does(
    in_rounds: RetrainingRun, sent: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    live = replace(in_rounds, settings=msgspec.structs.replace(in_rounds.settings, live_neighbours=True))
    monkeypatch.setattr(RetrainingRun, "fit_co_visits", lambda *_: pytest.fail("it is not needed"))
    live.publish_all_co_visits()
    assert not sent


def test_once_a_table_is_held_back_the_published_one_stays_until_a_gate_lets_another_through(
    in_rounds: RetrainingRun, sent: list[int]
) -> None:
    changes: list[TableChange] = []
    this = replace(in_rounds, incumbent=None, show_table_change=changes.append)
    this.publish_all_co_visits()
    assert PublishedCoVisits.read(this.job_folder) == PublishedCoVisits(learned_until_ms=720)
    table = this.fit_co_visits(this.events, NO_TEXTS).table(20)
    this.publish_neighbours(NewCoVisits(table, TableChange(0.1, 0, Interval(difference=-0.2, low=-0.3, high=-0.1))))
    this.publish_all_co_visits()
    assert len(sent) == len(changes) == 1, "it is held back"
    this.publish_neighbours(NewCoVisits(table, TableChange(0.1, 0)))
    this.publish_all_co_visits()
    assert len(sent) == 3, "a gate let one through"
    assert len(changes) == 2


def test_earlier_releases_are_the_retired_ones_that_can_still_serve(tmp_path: Path) -> None:
    settings, notices = Settings(data_dir=tmp_path, releases_dir=tmp_path), ReleaseNotices()
    for number, status in enumerate(("retired", "rejected", "retired", "retired", "live")):
        files = write(tmp_path / f"r{number}", number)
        digest = release.write(files.folder, files.manifest)
        notices.add(release_notice(files.manifest, digest, status, "why"))
    shutil.rmtree(tmp_path / "r2")
    assert [earlier.manifest.id for earlier in earlier_releases(settings, notices)] == ["r3", "r0"]


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
    ranked(this, candidate)
    assert "another title" in embedded
    assert len(embedded) == len(set(embedded))
