"""The bootstrap release: complete, servable, and useful without training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from anabranch import release
from anabranch.co_visit_scoring import CoVisitScoring
from anabranch.messages import Event, Item
from anabranch.ranking.policy import Policy
from anabranch.ranking.retrieval.co_visit_table import CoVisitRows
from anabranch.ranking.vocabulary import ItemVocabulary
from anabranch.release import Manifest, ReleasePolicy
from models.co_visit.model import CoVisitModel
from models.data.event_log import EventLog
from models.offline.offline_ranker import OfflineRanker, load_servable, neighbour_table, rank_events
from models.pipeline.bootstrap_release import FIXED_WEIGHTS, BootstrapInputs, make_bootstrap_release
from models.pipeline.data_kind import find_kind
from models.pipeline.presets import preset
from tests.support.layouts import LAYOUT

TITLES = ("red running shoe", "blue running shoe", "trail running shoe", "garden hose", "garden rake", "garden shears")
ITEMS = [Item(item_id=f"i{number}", title=title) for number, title in enumerate(TITLES)]


def make(
    folder: Path, items: Sequence[Item], log: EventLog, policy: Policy | None = None, cache: Path | None = None
) -> Manifest:
    """`cache` has text vectors of another release; without one all texts are embedded."""
    folder.mkdir(parents=True)
    config = replace(preset("baskets", threads=1), policy=policy or Policy())
    inputs = BootstrapInputs(log, list(items), find_kind(log), "nothing serves")
    manifest = make_bootstrap_release(inputs, folder, cache=cache or folder.parent, config=config)
    release.write(folder, manifest)
    return manifest


def events(*rows: tuple[str, str]) -> EventLog:
    """Views, a minute apart, from (user, item)."""
    return EventLog.from_events(
        [
            Event(event_id=str(number), user_id=user, item_id=item, ts=1 + 60_000 * number, type="view")
            for number, (user, item) in enumerate(rows)
        ],
        [item.item_id for item in ITEMS],
    )


def slates_of(folder: Path, log: EventLog, past: EventLog | None = None) -> list[list[str]]:
    """The slate after each event, by a co-visit table of the past."""
    item_ids = ItemVocabulary()
    opened = release.open_release(folder)
    live = load_servable(opened, item_ids, ITEMS, folder.parent)
    rows = CoVisitRows() if past is None else neighbour_table(CoVisitModel().fit(past).table(), item_ids, past)
    ranked = rank_events(OfflineRanker(live, rows, item_ids, Policy(), LAYOUT._replace(slate=3)), log, 0)
    names = {int(item_ids.row(item.item_id)): item.item_id for item in ITEMS}
    return [[names[row] for row in slate if row >= 0] for slate in ranked.slate.tolist()]


@pytest.fixture(scope="module")
def from_catalogue(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bootstrap release of a catalogue without a single event."""
    folder = tmp_path_factory.mktemp("releases") / "r0001"
    make(folder, ITEMS, events())
    return folder


def test_it_ranks_by_text_from_a_new_users_first_event(from_catalogue: Path) -> None:
    (slate,) = slates_of(from_catalogue, events(("new", "i3")))
    assert set(slate[:2]) == {"i4", "i5"}, "other garden tools"


def test_it_ranks_by_co_visits_where_there_are_some(from_catalogue: Path) -> None:
    past = events(*((f"u{number}", item) for number in range(30) for item in ("i3", "i0")))
    (slate,) = slates_of(from_catalogue, events(("new", "i3")), past)
    assert slate[0] == "i0"


def test_its_manifest_says_why_it_was_made_of_what_and_how_it_ranks(from_catalogue: Path, tmp_path: Path) -> None:
    tuned = CoVisitScoring(decay=1.0, own_share=0.1)
    policy = Policy(exclude_seen=True, neighbours=7, co_visit_scoring=tuned)
    manifest = make(tmp_path / "r0001", ITEMS, events(("u", "i0"), ("v", "i1")), policy, from_catalogue.parent)
    assert manifest.is_bootstrap
    assert manifest.policy == ReleasePolicy(exclude_seen=True, neighbours=7), "but the scoring that its weights fit"
    assert manifest.strategy["reason"] == "nothing serves"
    assert manifest.strategy["kind"]["name"] == "baskets"
    assert manifest.strategy["order_weights"] == FIXED_WEIGHTS
    assert manifest.strategy["measured"] == {"items": 6, "texts": 6, "events": 2, "users": 2}
    assert 0 < manifest.strategy["seconds"]["bootstrap"] < 60
    assert max(manifest.parity.values()) < 1e-4
    assert manifest.window.gate_from == manifest.window.gate_to == 60_002


def test_it_is_made_of_nothing_at_all_and_ranks_items_that_come_later(from_catalogue: Path, tmp_path: Path) -> None:
    make(tmp_path / "r0001", [], EventLog.from_events([]), cache=from_catalogue.parent)
    (slate,) = slates_of(tmp_path / "r0001", events(("new", "i3")))
    assert set(slate[:2]) == {"i4", "i5"}


def test_equal_inputs_give_equal_files(tmp_path: Path) -> None:
    first, second = (make(tmp_path / name / "r0001", ITEMS, events()) for name in ("a", "b"))
    assert first.files == second.files
