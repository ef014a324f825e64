"""Benchmark data sets, folders of parquet files in one neutral format, as event logs.

`train.parquet` and the other parts have the columns `user_id, position, item_id`, one row per event; `position` is the
order within the user. `items.parquet`, if present, has `item_id, title, brand, category`. There are no time stamps, so
events are given evenly spaced times that carry no information beyond their order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as parquet
from numpy.typing import NDArray

from anabranch.errors import AnabranchError
from anabranch.messages import EVENT_TYPES, Item
from models.data.event_log import NONE, EventColumns, EventLog

MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS
FIRST_TS = 1_600_000_000_000
"""UTC milliseconds at which the invented times begin."""
COLUMNS = ("user_id", "position", "item_id")
_VIEW = EVENT_TYPES.index("view")


class DataError(AnabranchError):
    """A data folder is not in the neutral format."""


@dataclass(frozen=True)
class Part:
    """N rows of one file, sorted by user and position."""

    user: NDArray[np.int64]
    position: NDArray[np.int64]
    item: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.user)

    @classmethod
    def read(cls, path: Path) -> Part:
        """Raises `DataError`, naming the file and the column."""
        if not path.is_file():
            raise DataError(f"{path} is missing: this protocol needs it in the data folder")
        table = parquet.read_table(path)
        missing = [name for name in COLUMNS if name not in table.column_names]
        if missing:
            raise DataError(f"{path} lacks the column {', '.join(missing)}; it has {', '.join(table.column_names)}")
        user, position, item = (table[name].to_numpy().astype(np.int64) for name in COLUMNS)
        order = np.lexsort((position, user))
        return cls(user[order], position[order], item[order])


def sessions(folder: Path) -> tuple[EventLog, EventLog, list[Item]]:
    """Training log, test log and items of a folder whose users are sessions.

    Sessions begin one minute apart in the order of their ids, test sessions after all training sessions. Events of a
    session are half a minute apart.
    """
    train, test = Part.read(folder / "train.parquet"), Part.read(folder / "test.parquet")
    items = _items(folder, [train, test])
    train_log, test_log = session_logs([train, test], items)
    return train_log, test_log, items


def periods(folder: Path) -> tuple[list[EventLog], list[Item]]:
    """Logs of `period_00.parquet`, `period_01.parquet` and so on, each later than the one before, and the items."""
    paths = sorted(folder.glob("period_*.parquet"))
    if len(paths) < 2:
        raise DataError(f"{folder} has {len(paths)} files period_*.parquet, but needs at least 2: to train and to test")
    parts = [Part.read(path) for path in paths]
    items = _items(folder, parts)
    return session_logs(parts, items), items


def session_logs(parts: Sequence[Part], items: Sequence[Item]) -> list[EventLog]:
    """One log per part. Users, which are sessions, are numbered consecutively over all parts."""
    logs, users = [], 0
    by_part = [np.unique(part.user, return_inverse=True) for part in parts]
    user_ids = tuple(f"{number}-{user}" for number, (ids, _) in enumerate(by_part) for user in ids.tolist())
    numbers = np.array([int(item.item_id) for item in items])  # `_items` sorts them
    item_ids = tuple(item.item_id for item in items)
    begin = FIRST_TS
    for part, (ids, index) in zip(parts, by_part, strict=True):
        user = users + index
        ts = begin + index * MINUTE_MS + part.position * (MINUTE_MS // 2)
        begin = int(ts.max()) + MINUTE_MS  # no session overlaps the next part
        log = EventLog.from_columns(
            EventColumns(user, np.searchsorted(numbers, part.item), np.full(len(user), _VIEW), ts, user),
            user_ids=user_ids,
            item_ids=item_ids,
        )
        logs.append(log)
        users += len(ids)
    return logs


@dataclass(frozen=True)
class LeaveOneOut:
    """Each user's last event is for the test, the one before it for validation, and all others for training."""

    log: EventLog
    items: list[Item]
    validation_from: int
    """UTC milliseconds; earlier events are for training."""
    test_from: int
    """UTC milliseconds."""


def leave_one_out(folders: Sequence[Path]) -> LeaveOneOut:
    """Read one folder, or several as domains of one catalogue; then ids begin with the name of their folder.

    All users end at the same time. Their events are one hour apart.
    """
    columns: list[EventColumns] = []
    items: list[Item] = []
    user_ids: list[str] = []
    for folder in folders:
        prefix = f"{folder.name}:" if len(folders) > 1 else ""
        parts = [Part.read(folder / f"{name}.parquet") for name in ("train", "val", "test")]
        folder_items = _items(folder, parts, prefix, folder.name if prefix else None)
        users = np.unique(np.concatenate([part.user for part in parts]))
        columns += _leave_one_out_columns(parts, users, folder_items, len(user_ids), len(items))
        user_ids += [f"{prefix}{user}" for user in users.tolist()]
        items += folder_items
    log = EventLog.from_columns(
        EventColumns(*(np.concatenate(column) for column in zip(*columns, strict=True))),
        user_ids=tuple(user_ids),
        item_ids=tuple(item.item_id for item in items),
    )
    return LeaveOneOut(log, items, FIRST_TS, FIRST_TS + HOUR_MS)


def _leave_one_out_columns(
    parts: Sequence[Part], users: NDArray[np.int64], items: Sequence[Item], first_user: int, first_item: int
) -> list[EventColumns]:
    """Events of one folder's training, validation and test part, its users and items numbered from the given ones."""
    numbers = np.array([int(item.item_id.rpartition(":")[2]) for item in items])  # `_items` sorts them
    training_events = np.bincount(np.searchsorted(users, parts[0].user), minlength=len(users))
    columns = []
    for hour, part in enumerate(parts, start=-1):  # the last training event, the validation event, the test event
        user = np.searchsorted(users, part.user)
        index = np.arange(len(part)) - np.searchsorted(part.user, part.user)  # of the user's events in this part
        hours_before_last = training_events[user] - index - 1 if hour == -1 else np.zeros(len(part), np.int64)
        columns.append(
            EventColumns(
                user=first_user + user,
                item=first_item + np.searchsorted(numbers, part.item),
                type=np.full(len(part), _VIEW),
                ts=FIRST_TS + (hour - hours_before_last) * HOUR_MS,
                session=np.full(len(part), NONE),
            )
        )
    return columns


def _items(folder: Path, parts: Sequence[Part], prefix: str = "", domain: str | None = None) -> list[Item]:
    """Every item that is described or has an event, sorted by number; without a description its title is empty."""
    path = folder / "items.parquet"
    described = {row["item_id"]: row for row in parquet.read_table(path).to_pylist()} if path.is_file() else {}
    numbers = np.unique(np.concatenate([part.item for part in parts] + [np.array(list(described), np.int64)]))
    return [_item(number, described.get(number, {}), prefix, domain) for number in numbers.tolist()]


def _item(number: int, row: dict[str, str | None], prefix: str, domain: str | None) -> Item:
    category = row.get("category")
    return Item(
        item_id=f"{prefix}{number}",
        title=row.get("title") or "",
        brand=row.get("brand") or None,
        category=[category] if category else [],
        domain=domain,
    )
