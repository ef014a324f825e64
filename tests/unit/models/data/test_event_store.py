from __future__ import annotations

import os
from pathlib import Path

import msgspec
import numpy as np
import pyarrow.parquet as pq
import pytest

from anabranch.messages import Event
from models.data.event_log import NONE, EventLog
from models.data.event_store import EventStore
from tests.support.full_disk import files_up_to


def _purchase(n: int, item_id: str, session_id: str | None = None) -> Event:
    return Event(event_id=f"e{n}", user_id=f"u{n % 2}", type="purchase", ts=n, item_id=item_id, session_id=session_id)


def test_appended_events_are_read_in_time_order_after_reopening(tmp_path: Path) -> None:
    store = EventStore.open(tmp_path)
    store.append([_purchase(2, "b", "s"), _purchase(1, "a")], {"events": {0: 2}})
    store.append([_purchase(3, "a", "s")], {"events": {0: 2}, "feedback": {0: 1}})

    reopened = EventStore.open(tmp_path)
    log = reopened.log(item_ids=["z", "a"])

    assert reopened.next_offsets == {"events": {0: 2}, "feedback": {0: 1}}
    assert log.item_ids == ("z", "a", "b")
    assert log.ts.tolist() == [1, 2, 3]
    assert log.item.tolist() == [1, 2, 1]
    assert [log.user_ids[user] for user in log.user] == ["u1", "u0", "u1"]
    assert log.session.tolist() == [-1, 0, 0]


def test_a_search_has_no_item(tmp_path: Path) -> None:
    store = EventStore.open(tmp_path)
    store.append([Event(event_id="e", user_id="u", type="search", ts=1, query="soup")], {})
    log = EventStore.open(tmp_path).log()
    assert log.item.tolist() == [-1]
    assert [log.queries[query] for query in log.query.tolist()] == ["soup"]


def test_a_search_with_an_item_has_both_and_other_events_have_no_query(tmp_path: Path) -> None:
    search = Event(event_id="e1", user_id="u", type="search", ts=1, query="soup", item_id="a")
    view = Event(event_id="e2", user_id="u", type="view", ts=2, query="soup", item_id="a")
    store = EventStore.open(tmp_path)
    store.append([search, view], {})
    stored, direct = store.log(), EventLog.from_events([search, view])
    assert stored.query.tolist() == direct.query.tolist() == [0, NONE]
    assert stored.queries == direct.queries == ("soup",)
    assert stored.item.tolist() == [0, 0]


def test_a_refund_shows_interest_in_no_item(tmp_path: Path) -> None:
    refund = msgspec.structs.replace(_purchase(2, "b"), type="refund")
    store = EventStore.open(tmp_path)
    store.append([_purchase(1, "a"), refund], {})
    stored, direct = store.log(), EventLog.from_events([_purchase(1, "a"), refund])
    assert stored.item.tolist() == direct.item.tolist() == [0, NONE]
    assert stored.type.tolist() == direct.type.tolist()
    assert stored.item_ids == direct.item_ids == ("a",), "an item that only came back is none of the log's"


def test_a_dislike_and_a_bad_rating_show_interest_in_no_item_and_a_good_one_does(tmp_path: Path) -> None:
    events = [
        Event(event_id=f"e{n}", user_id="u", type=type, ts=n, item_id="a", rating=rating)
        for n, (type, rating) in enumerate([("dislike", None), ("rating", -1.0), ("rating", 1.0), ("like", None)])
    ]
    store = EventStore.open(tmp_path)
    store.append(events, {})
    stored, direct = store.log(), EventLog.from_events(events)
    assert stored.item.tolist() == direct.item.tolist() == [NONE, NONE, 0, 0]
    assert stored.type.tolist() == direct.type.tolist()


def test_an_empty_store_is_an_empty_log(tmp_path: Path) -> None:
    assert len(EventStore.open(tmp_path / "new").log()) == 0


def test_an_unfinished_part_is_not_read(tmp_path: Path) -> None:
    store = EventStore.open(tmp_path)
    store.append([_purchase(1, "a")], {})
    (tmp_path / "part-000001.parquet.unfinished").write_bytes(b"half a part")
    assert len(EventStore.open(tmp_path).log()) == 1


def test_a_part_is_on_the_disk_before_it_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(os.readlink(f"/proc/self/fd/{descriptor}")))
    store = EventStore.open(tmp_path / "store")
    store.append([_purchase(1, "a")], {"events": {0: 1}})
    assert [Path(path).name for path in synced] == [tmp_path.name, "part-000000.parquet.unfinished", "store"]


def test_a_part_that_finds_no_room_leaves_the_store_as_it_was(tmp_path: Path) -> None:
    store = EventStore.open(tmp_path)
    store.append([_purchase(1, "a")], {"events": {0: 1}})
    many = [_purchase(number, f"item {number}") for number in range(2, 5_000)]
    with files_up_to(8192), pytest.raises(OSError, match="File too large"):
        store.append(many, {"events": {0: 5_000}})
    assert store.next_offsets == EventStore.open(tmp_path).next_offsets == {"events": {0: 1}}
    store.append(many, {"events": {0: 5_000}})
    assert len(EventStore.open(tmp_path).log()) == 4_999


def test_propensities_are_in_the_order_of_the_log_and_unknown_in_parts_of_earlier_versions(tmp_path: Path) -> None:
    store = EventStore.open(tmp_path)
    store.append([_purchase(4, "a"), _purchase(1, "a")], {})
    part = tmp_path / "part-000000.parquet"
    pq.write_table(pq.read_table(part).drop_columns(["propensity"]), part)  # as an earlier version wrote it
    store.append([_purchase(5, "a"), _purchase(2, "b"), _purchase(3, "b")], {}, [0.04, None, 1.0])
    store.append([_purchase(0, "a")], {})
    assert store.log().ts.tolist() == [0, 1, 2, 3, 4, 5]
    np.testing.assert_array_equal(store.propensities(), [np.nan, np.nan, np.nan, 1.0, np.nan, 0.04])
    assert len(EventStore.open(tmp_path / "new").propensities()) == 0
