from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from anabranch.messages import Event, Item
from anabranch.ranking.policy import Policy
from anabranch.ranking.retrieval.co_visit_table import CoVisitRows
from anabranch.ranking.vocabulary import ItemVocabulary
from models.data.event_log import EventLog
from models.offline.catalogue_history import CatalogueHistory, ItemVersion, newest_versions
from models.offline.offline_ranker import OfflineRanker, rank_events
from tests.support.layouts import LAYOUT
from tests.support.releases import live_release, write_release

ITEMS = [f"item {number}" for number in range(30)]
ALL = Policy(retrieval_k=len(ITEMS), allow_session_repeats=True)


def version(ts: int, item_id: str = "item 3", title: str | None = None, available: bool = True) -> ItemVersion:
    return ItemVersion(ts, item_id, Item(item_id=item_id, title=title or item_id, available=available))


def removed(ts: int, item_id: str = "item 3") -> ItemVersion:
    return ItemVersion(ts, item_id, None)


def log(count: int = 100) -> EventLog:
    return EventLog.from_events(
        [
            Event(event_id=str(n), user_id=f"user {n % 3}", type="view", item_id=ITEMS[n * 7 % len(ITEMS)], ts=100 + n)
            for n in range(count)
        ],
        ITEMS,
    )


def ranker(folder: Path, *versions: ItemVersion) -> OfflineRanker:
    """The index has the items as they are now."""
    write_release(folder / "r1", item_ids=ITEMS)
    item_ids = ItemVocabulary()
    item_ids.rows(ITEMS)
    now = {item.item_id: item for item in newest_versions([*map(lambda item: version(0, item), ITEMS), *versions])}
    live = live_release(folder / "r1", item_ids, now)
    rows = item_ids.rows(now)
    available = np.array([item.available for item in now.values()])
    live.index.upsert(rows, live.index.vectors(rows), available, item_ids.hashes(rows))
    history = CatalogueHistory.from_versions(versions)
    changes = history.encoded(live, item_ids, live.text.encode(history.texts))
    return OfflineRanker(live, CoVisitRows(), item_ids, ALL, LAYOUT._replace(slate=len(ITEMS)), catalogue=changes)


def shown(ranker: OfflineRanker, item_id: str = "item 3", start: int = 0) -> list[int]:
    """The events after which the slate has the item."""
    slates = rank_events(ranker, log(), start).slate
    return np.flatnonzero((slates == ranker.item_ids.row(item_id)).any(axis=1)).tolist()


def test_an_item_is_shown_while_it_is_available(tmp_path: Path) -> None:
    changed = ranker(tmp_path, version(50), version(133, available=False), version(160), version(190, available=False))
    assert shown(changed) == [*range(33), *range(60, 90)]


def test_every_run_begins_with_the_catalogue_of_its_time(tmp_path: Path) -> None:
    changed = ranker(tmp_path, version(50), version(130, available=False))
    assert shown(changed) == shown(changed) == list(range(30))
    assert shown(changed, start=60) == []
    assert shown(changed, start=10) == list(range(20))


def test_an_item_that_was_removed_since_is_shown_until_then(tmp_path: Path) -> None:
    assert shown(ranker(tmp_path, version(50), removed(140))) == list(range(40))


def test_the_oldest_version_that_is_known_counts_from_the_beginning(tmp_path: Path) -> None:
    assert shown(ranker(tmp_path, version(120), version(150, available=False))) == list(range(50))


def test_a_changed_text_counts_from_its_time_on(tmp_path: Path) -> None:
    changed = ranker(tmp_path / "changed", version(50), version(150, title="another text"))
    scores = [rank_events(one, log(), 0).slate for one in (changed, ranker(tmp_path / "as it was"))]
    assert (scores[0][:50] == scores[1][:50]).all()
    assert (scores[0][50:] != scores[1][50:]).any()


def test_the_states_of_a_release_that_has_served_follow_the_catalogue_too(tmp_path: Path) -> None:
    """An event moves its user by the vector that the item had then, or not at all if it had none."""
    changed = ranker(tmp_path, version(1), version(120, title="another text"), removed(140), version(170))
    served = replace(changed, served_from_ms=0, layout=changed.layout._replace(history=2))
    begun = rank_events(served, log(), 0)
    gone_on = rank_events(served, log(), 80)
    assert (gone_on.slate == begun.slate[80:]).all()
    assert (gone_on.rank == begun.rank[80:]).all()


def test_only_what_changed_is_kept() -> None:
    same = [version(1), version(5), version(9)]
    other = [version(2, "item 4"), version(3, "item 4", available=False)]
    priced = ItemVersion(7, "item 5", Item(item_id="item 5", title="item 5", price=3.0))
    history = CatalogueHistory.from_versions([*same, *other, version(6, "item 5"), priced])
    assert [(one.ts, one.item_id) for one in history.versions] == [(2, "item 4"), (3, "item 4")]


def test_without_changes_there_is_nothing_to_encode(tmp_path: Path) -> None:
    assert ranker(tmp_path).catalogue is None


def test_the_catalogue_of_now_has_the_newest_version_of_what_is_not_removed() -> None:
    versions = [version(1, "a"), version(1, "b"), version(2, "a", title="new"), version(3, "c"), removed(4, "b")]
    assert [(item.item_id, item.title) for item in newest_versions(versions)] == [("a", "new"), ("c", "c")]
