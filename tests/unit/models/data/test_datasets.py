"""Data folders as logs: the order in the files becomes time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest

from models.data.datasets import COLUMNS, WEEK_MS, DataError, leave_one_out, periods, sessions
from models.data.event_log import EventLog
from models.networks.list_ranker import CONSTANT_DEVIATION
from tests.support.data_folders import write_folder

TRAIN = [(0, 0, 7), (0, 1, 9), (1, 0, 9), (1, 1, 7), (1, 2, 8)]
VAL = [(0, 0, 8), (1, 0, 3)]
TEST = [(1, 0, 5), (0, 0, 3)]


def histories(log: EventLog) -> dict[str, list[str]]:
    return {
        user_id: [log.item_ids[item] for item in log.item[log.user == number]]
        for number, user_id in enumerate(log.user_ids)
    }


def test_sessions_keep_their_order_and_those_of_the_test_come_after_all_others(tmp_path: Path) -> None:
    folder = write_folder(tmp_path, {"train": TRAIN, "test": [(0, 0, 8), (0, 1, 7)]})
    train, test, items = sessions(folder)
    assert [item.item_id for item in items] == ["7", "8", "9"]
    assert histories(train.followed_by(test)) == {"0-0": ["7", "9"], "0-1": ["9", "7", "8"], "1-0": ["8", "7"]}
    assert test.ts.min() > train.ts.max()


def test_a_long_training_session_does_not_overlap_the_test(tmp_path: Path) -> None:
    folder = write_folder(
        tmp_path, {"train": [(0, position, 1) for position in range(70)], "test": [(0, 0, 1), (0, 1, 1)]}
    )
    train, test, _ = sessions(folder)
    assert test.ts.min() > train.ts.max()


def test_rows_may_be_in_any_order(tmp_path: Path) -> None:
    first = sessions(write_folder(tmp_path / "one", {"train": TRAIN, "test": TEST}))[0]
    second = sessions(write_folder(tmp_path / "other", {"train": TRAIN[::-1], "test": TEST}))[0]
    assert histories(first) == histories(second)


def test_leave_one_out_divides_the_events_by_time_and_each_is_a_session(tmp_path: Path) -> None:
    data = leave_one_out([write_folder(tmp_path, {"train": TRAIN, "val": VAL, "test": TEST})])
    assert histories(data.log) == {"0": ["7", "9", "8", "3"], "1": ["9", "7", "8", "3", "5"]}
    assert (data.log.ts < data.validation_from).sum() == len(TRAIN)
    assert (data.log.ts >= data.test_from).sum() == len(TEST)
    last = (data.log.ts >= data.last_from) & (data.log.ts < data.validation_from)
    assert sorted(data.log.item_ids[item] for item in data.log.item[last]) == ["8", "9"]
    assert len(np.unique(data.log.session)) == len(data.log)


def test_made_up_times_of_histories_do_not_tell_how_many_events_are_left(tmp_path: Path) -> None:
    """What reads times in days or hours sees all events of the longest history at once."""
    train = [(0, position, position) for position in range(1000)] + [(1, 0, 3)]
    parts = {"train": train, "val": [(0, 0, 1), (1, 0, 1)], "test": [(0, 0, 2), (1, 0, 2)]}
    log = leave_one_out([write_folder(tmp_path, parts)]).log
    days = (log.ts[-1] - log.ts) / 86_400_000
    assert np.log1p(days).std() < CONSTANT_DEVIATION


@pytest.mark.parametrize("count", [10, 1000])
def test_made_up_times_of_sessions_span_the_same_weeks_however_many_there_are(tmp_path: Path, count: int) -> None:
    train = [(session, position, 1) for session in range(count) for position in range(2)]
    log, test, _ = sessions(write_folder(tmp_path, {"train": train, "test": [(0, 0, 1), (0, 1, 1)]}))
    assert (test.ts[0] - log.ts[0]) / WEEK_MS == pytest.approx(18, abs=0.01)


def test_a_period_is_a_week(tmp_path: Path) -> None:
    logs, _ = periods(write_folder(tmp_path, {f"period_0{number}": TRAIN for number in range(3)}))
    assert np.diff([log.ts[0] for log in logs]) == pytest.approx(WEEK_MS, rel=0.01)


def test_several_folders_are_domains_with_separate_ids(tmp_path: Path) -> None:
    parts = {"train": TRAIN, "val": VAL, "test": TEST}
    data = leave_one_out([write_folder(tmp_path / name, parts) for name in ("toys", "books")])
    assert {item.domain for item in data.items} == {"toys", "books"}
    assert len(data.items) == 2 * 5
    assert set(data.log.user_ids) == {"toys:0", "toys:1", "books:0", "books:1"}
    for user_id, items in histories(data.log).items():
        assert {item.partition(":")[0] for item in items} == {user_id.partition(":")[0]}


def test_items_have_the_texts_of_the_folder_or_none(tmp_path: Path) -> None:
    described = [{"item_id": 7, "title": "Tea", "brand": None, "category": "Drinks"}]
    folder = write_folder(tmp_path, {"train": TRAIN, "test": TEST}, described)
    items = {item.item_id: item for item in sessions(folder)[2]}
    assert (items["7"].title, items["7"].brand, items["7"].category) == ("Tea", None, ["Drinks"])
    assert items["9"].title == ""


def test_periods_do_not_overlap(tmp_path: Path) -> None:
    logs, _ = periods(write_folder(tmp_path, {"period_00": TRAIN, "period_01": TEST}))
    assert logs[1].ts.min() > logs[0].ts.max()


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"test\.parquet is missing"):
        sessions(write_folder(tmp_path, {"train": TRAIN}))


def test_an_error_names_missing_and_present_columns(tmp_path: Path) -> None:
    write_folder(tmp_path, {"test": TEST})
    parquet.write_table(pa.table({"user_id": [1], "item": [2]}), tmp_path / "train.parquet")
    with pytest.raises(DataError, match="lacks the column position, item_id; it has user_id, item"):
        sessions(tmp_path)


def test_ids_may_be_text(tmp_path: Path) -> None:
    _write(tmp_path / "train.parquet", [("u2", 0, "sku-9"), ("u1", 0, "sku-10"), ("u1", 1, "sku-9")])
    _write(tmp_path / "test.parquet", [("u3", 0, "sku-10")])
    train, test, items = sessions(tmp_path)
    assert [item.item_id for item in items] == ["sku-10", "sku-9"]
    assert [train.item_ids[item] for item in train.item.tolist()] == ["sku-10", "sku-9", "sku-9"]
    assert [test.item_ids[item] for item in test.item.tolist()] == ["sku-10"]


def test_ids_of_two_types_do_not_join(tmp_path: Path) -> None:
    _write(tmp_path / "train.parquet", [("u2", 0, "1")])
    _write(tmp_path / "test.parquet", [(3, 0, 1)])
    with pytest.raises(DataError, match="item_id is a whole number in one file and text in another"):
        sessions(tmp_path)


def test_an_empty_id_is_named(tmp_path: Path) -> None:
    _write(tmp_path / "train.parquet", [("u2", 0, "1"), ("u2", 1, None)])
    _write(tmp_path / "test.parquet", [("u3", 0, "1")])
    with pytest.raises(DataError, match=r"train\.parquet: item_id is empty in 1 rows"):
        sessions(tmp_path)


def _write(path: Path, rows: list[tuple[object, int, object]]) -> None:
    parquet.write_table(pa.table(dict(zip(COLUMNS, map(list, zip(*rows, strict=True)), strict=True))), path)
