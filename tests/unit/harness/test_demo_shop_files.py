from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from anabranch.errors import UsageError
from anabranch.harness.demo.data import DemoData
from anabranch.harness.demo.shop_files import PlaySchedule, ShopFiles
from anabranch.input_files.check import Content
from anabranch.input_files.columns import EVENT_ALIASES, ITEM_ALIASES, parse_columns
from anabranch.input_files.events import EventOptions, parse_types
from anabranch.input_files.faults import Faults, FaultyFile


class Said:
    """What was said of the files; rows that cannot be read are refused, or listed in `skipped`."""

    def __init__(self, skipped: Path | None = None) -> None:
        self.lines: list[str] = []
        self._skipped = skipped

    def __call__(self, file: Path, content: Content, lines: Sequence[str], faults: Faults) -> Path | None:
        self.lines += lines
        if self._skipped is None:
            faults.require_none(str(file))
        return self._skipped


def _write_events(folder: Path, rows: Sequence[str]) -> Path:
    path = folder / "events.csv"
    path.write_text("\n".join(["visitorid,product,timestamp,event", *rows]) + "\n")
    return path


def _row(number: int, event: str = "view") -> str:
    return f"u{number % 3},i{number % 5},{1_700_000_000 + 60 * number},{event}"


def _data(events: Path, items: Path | None = None, said: Said | None = None, **schedule: float | None) -> DemoData:
    options = EventOptions(parse_columns("title=label" if items else None, {**EVENT_ALIASES, **ITEM_ALIASES}), {})
    return ShopFiles(events, items, options, said or Said()).data(PlaySchedule(**schedule))  # type: ignore[arg-type]


def _items(folder: Path, *item_ids: str) -> Path:
    path = folder / "items.csv"
    path.write_text("\n".join(["product,label", *(f"{item_id},Title of {item_id}" for item_id in item_ids)]) + "\n")
    return path


def test_events_of_any_order_are_divided_by_time(tmp_path: Path) -> None:
    data = _data(_write_events(tmp_path, [_row(number) for number in reversed(range(100))]))
    parts = [data.history, *(segment.events for segment in data.segments)]
    assert [len(part) for part in parts] == [70, 15, 15]
    times = [event.ts for part in parts for event in part]
    assert times == sorted(times)
    assert data.notes[-2] == "segment 1: 2023-11-14T23:23:20Z to 2023-11-14T23:37:20Z"


def test_shares_and_segments_are_as_given(tmp_path: Path) -> None:
    events = _write_events(tmp_path, [_row(number) for number in range(100)])
    data = _data(events, history_share=0.4, reshares=3)
    assert [len(data.history), *(len(segment.events) for segment in data.segments)] == [40, 20, 20, 20]


def test_without_a_catalogue_items_have_their_ids_as_titles_and_it_is_said(tmp_path: Path) -> None:
    data = _data(_write_events(tmp_path, [_row(number) for number in range(100)]))
    assert {(item.item_id, item.title) for item in data.items} == {(f"i{number}", f"i{number}") for number in range(5)}
    assert "no --items" in data.notes[0]


def test_columns_may_be_of_either_file_and_how_they_are_read_is_said(tmp_path: Path) -> None:
    said = Said()
    events = _write_events(tmp_path, [_row(number, "addtocart") for number in range(100)])
    data = _data(events, _items(tmp_path, "i0", "i1", "i9"), said)
    assert [item.title for item in data.items] == ["Title of i0", "Title of i1"]
    assert data.history[0].type == "cart"
    assert "user_id is read from the column visitorid" in said.lines
    assert "title is read from the column label" in said.lines
    assert list(data.notes)[:2] == [
        "3 items of the events are not in items.csv",
        "the catalogue has the 2 of 3 items that the events name",
    ]


def test_everything_is_played_on_demand(tmp_path: Path) -> None:
    events = _write_events(tmp_path, [_row(number) for number in range(100)])
    items = _items(tmp_path, *(f"i{number}" for number in range(9)))
    assert len(_data(events, items, max_events=None).items) == 9
    assert len(_data(events, items, max_events=50).items) == 5


def test_the_newest_events_of_a_long_file_are_played_and_it_is_said(tmp_path: Path) -> None:
    data = _data(_write_events(tmp_path, [_row(number) for number in range(100)]), max_events=40)
    assert data.history[0].ts == (1_700_000_000 + 60 * 60) * 1000
    assert data.notes[0] == "the newest 40 of 100 events are played; --full plays all"


def test_a_row_that_cannot_be_read_is_named_before_anything_starts(tmp_path: Path) -> None:
    rows = [_row(number) for number in range(100)]
    rows[41] = "u1,i1,yesterday,view"
    with pytest.raises(FaultyFile, match=r"events\.csv, row 42: timestamp"):
        _data(_write_events(tmp_path, rows))


def test_rows_that_cannot_be_read_are_left_out_and_listed_on_demand(tmp_path: Path) -> None:
    rows = [_row(number) for number in range(100)]
    rows[41] = "u1,i1,yesterday,view"
    skipped = tmp_path / "skipped.jsonl"
    data = _data(_write_events(tmp_path, rows), said=Said(skipped))
    assert len(data.history) + sum(len(segment.events) for segment in data.segments) == 99
    assert '"row":42' in skipped.read_text()


def test_ids_that_join_with_nothing_are_an_error(tmp_path: Path) -> None:
    events = _write_events(tmp_path, [_row(number) for number in range(100)])
    with pytest.raises(UsageError, match="write the ids in both in the same way"):
        _data(events, _items(tmp_path, "0", "1"))


@pytest.mark.parametrize("count", [1, 5, 19])
def test_too_few_events_are_an_error_with_the_options_that_divide_them(tmp_path: Path, count: int) -> None:
    with pytest.raises(UsageError, match=r"too few .*--history-share 0\.7.*--reshares"):
        _data(_write_events(tmp_path, [_row(number) for number in range(count)]))


def test_a_column_that_is_in_neither_file_is_an_error(tmp_path: Path) -> None:
    events = _write_events(tmp_path, [_row(number) for number in range(100)])
    options = EventOptions(parse_columns("user_id=who", EVENT_ALIASES), parse_types(None))
    with pytest.raises(UsageError, match=r"there is no column who; .*events\.csv has visitorid"):
        ShopFiles(events, None, options, Said()).data(PlaySchedule())
