"""Benchmark data sets, folders of parquet files in one neutral format, as event logs.

`train.parquet` and the other parts have the columns `user_id, position, item_id`, one row per event; `position` is the
order within the user. `items.parquet`, if present, has `item_id, title, brand, category`. Ids are numbers or text.
There are no time stamps, so times are made up. They must carry no information beyond the order: neither how many events
a user still has, nor how large the data set is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
from numpy.typing import NDArray

from anabranch.errors import AnabranchError
from anabranch.messages import EVENT_TYPES, Item
from models.data.event_log import NONE, EventColumns, EventLog

MINUTE_MS = 60_000
WEEK_MS = 7 * 24 * 60 * MINUTE_MS
FIRST_TS = 1_600_000_000_000
"""UTC milliseconds at which the made-up times begin."""
TRAINING_SPAN_MS = 18 * WEEK_MS
"""Time in which the training sessions begin, however many there are: a half-life means the same in every data set."""
STEP_MS = 1
"""Time between two of a user's newest events in leave-one-out. All users end together, so a time tells how many events
are left: in steps this short all events are equally old to what is measured in days, as half-lives and ages are."""
MAX_STEPS = 64
"""Earlier events than a user's newest so many have one time, in their order. Otherwise long histories would be long
enough to tell."""
COLUMNS = ("user_id", "position", "item_id")
Ids = NDArray[Any]
"""[n] whole numbers, or text"""
_VIEW = EVENT_TYPES.index("view")


class DataError(AnabranchError):
    """A data folder is not in the neutral format."""


@dataclass(frozen=True)
class Part:
    """N rows of one file, sorted by user and position."""

    user: Ids
    position: NDArray[np.int64]
    item: Ids

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
        if not len(table):
            raise DataError(f"{path} holds no rows")
        user, item = (_ids(path, name, table[name]) for name in ("user_id", "item_id"))
        position = table["position"].to_numpy().astype(np.int64)
        order = np.lexsort((position, user))
        return cls(user[order], position[order], item[order])


def sessions(folder: Path) -> tuple[EventLog, EventLog, list[Item]]:
    """Training log, test log and items of a folder whose users are sessions.

    Sessions begin evenly spaced in the order of their ids: the training sessions over `TRAINING_SPAN_MS`, then the test
    sessions at the same distance from each other. Events of a session are half a minute apart.
    """
    train, test = Part.read(folder / "train.parquet"), Part.read(folder / "test.parquet")
    items, ids = _items(folder, [train, test])
    distance_ms = TRAINING_SPAN_MS / len(np.unique(train.user))
    train_log, test_log = session_logs([train, test], ids, [distance_ms, distance_ms])
    return train_log, test_log, items


def periods(folder: Path) -> tuple[list[EventLog], list[Item]]:
    """Logs of `period_00.parquet`, `period_01.parquet` and so on, and the items.

    Times are as for `sessions`. Each period is a week long, and begins after the one before.
    """
    paths = sorted(folder.glob("period_*.parquet"))
    if len(paths) < 2:
        raise DataError(f"{folder} has {len(paths)} files period_*.parquet, but needs at least 2: to train and to test")
    parts = [Part.read(path) for path in paths]
    items, ids = _items(folder, parts)
    return session_logs(parts, ids, [WEEK_MS / len(np.unique(part.user)) for part in parts]), items


def session_logs(parts: Sequence[Part], items: Ids, distances_ms: Sequence[float]) -> list[EventLog]:
    """One log per part; `items` [n] are sorted. Users, which are sessions, are numbered over all parts.

    `distances_ms` has the time from the start of one session to that of the next, for each part.
    """
    logs, users = [], 0
    by_part = [np.unique(part.user, return_inverse=True) for part in parts]
    user_ids = tuple(f"{number}-{user}" for number, (ids, _) in enumerate(by_part) for user in ids.tolist())
    item_ids = tuple(map(str, items.tolist()))
    begin = FIRST_TS
    for part, (ids, index), distance_ms in zip(parts, by_part, distances_ms, strict=True):
        user = users + index
        ts = begin + (index * distance_ms).astype(np.int64) + part.position * (MINUTE_MS // 2)
        begin = max(begin + int(len(ids) * distance_ms), int(ts.max()) + MINUTE_MS)  # no session overlaps the next part
        log = EventLog.from_columns(
            EventColumns(user, np.searchsorted(items, part.item), np.full(len(user), _VIEW), ts, user),
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
    last_from: int
    """UTC milliseconds; each user's last event for training is from here to `validation_from`."""
    validation_from: int
    """UTC milliseconds; earlier events are for training."""
    test_from: int
    """UTC milliseconds."""


def leave_one_out(folders: Sequence[Path]) -> LeaveOneOut:
    """Read one folder, or several as domains of one catalogue; then ids begin with the name of their folder.

    All users end at the same time. Their newest events are `STEP_MS` apart, and each event is a session.
    """
    columns: list[EventColumns] = []
    items: list[Item] = []
    user_ids: list[str] = []
    for folder in folders:
        prefix = f"{folder.name}:" if len(folders) > 1 else ""
        parts = [Part.read(folder / f"{name}.parquet") for name in ("train", "val", "test")]
        folder_items, ids = _items(folder, parts, prefix, folder.name if prefix else None)
        users = _distinct(folder, "user_id", [part.user for part in parts])
        columns += _leave_one_out_columns(parts, users, ids, len(user_ids), len(items))
        user_ids += [f"{prefix}{user}" for user in users.tolist()]
        items += folder_items
    log = EventLog.from_columns(
        EventColumns(*(np.concatenate(column) for column in zip(*columns, strict=True))),
        user_ids=tuple(user_ids),
        item_ids=tuple(item.item_id for item in items),
    )
    log = replace(log, session=np.arange(len(log)))
    return LeaveOneOut(log, items, FIRST_TS - STEP_MS, FIRST_TS, FIRST_TS + STEP_MS)


def _leave_one_out_columns(
    parts: Sequence[Part], users: Ids, items: Ids, first_user: int, first_item: int
) -> list[EventColumns]:
    """Events of one folder's training, validation and test part, its users and items numbered from the given ones."""
    training_events = np.bincount(np.searchsorted(users, parts[0].user), minlength=len(users))
    columns = []
    for step, part in enumerate(parts, start=-1):  # the last training event, the validation event, the test event
        user = np.searchsorted(users, part.user)
        index = np.arange(len(part)) - np.searchsorted(part.user, part.user)  # of the user's events in this part
        before_last = training_events[user] - index - 1 if step == -1 else np.zeros(len(part), np.int64)
        columns.append(
            EventColumns(
                user=first_user + user,
                item=first_item + np.searchsorted(items, part.item),
                type=np.full(len(part), _VIEW),
                ts=FIRST_TS + (step - np.minimum(before_last, MAX_STEPS)) * STEP_MS,
                session=np.full(len(part), NONE),
                query=np.full(len(part), NONE),
            )
        )
    return columns


def _items(folder: Path, parts: Sequence[Part], prefix: str = "", domain: str | None = None) -> tuple[list[Item], Ids]:
    """Every item that is described or has an event, and their ids, both sorted by id; a missing title is empty."""
    path, described, columns = folder / "items.parquet", dict[Any, dict[str, Any]](), [part.item for part in parts]
    if path.is_file():
        table = parquet.read_table(path)
        columns.append(_ids(path, "item_id", table["item_id"]))
        described = dict(zip(columns[-1].tolist(), table.to_pylist(), strict=True))
    ids = _distinct(folder, "item_id", columns)
    return [_item(item_id, described.get(item_id, {}), prefix, domain) for item_id in ids.tolist()], ids


def _distinct(folder: Path, name: str, columns: Sequence[Ids]) -> Ids:
    """The distinct ids of all columns, sorted. Raises `DataError` if some are text and others numbers."""
    kinds = {column.dtype.kind for column in columns if len(column)}
    if len(kinds) > 1:
        raise DataError(f"{folder}: {name} is a whole number in one file and text in another; make them alike")
    return np.unique(np.concatenate([column for column in columns if len(column)] or list(columns)))


def _ids(path: Path, name: str, column: pa.ChunkedArray) -> Ids:
    """A column of ids. Raises `DataError`, naming file and column, if some are missing or are no ids."""
    if column.null_count:
        raise DataError(f"{path}: {name} is empty in {column.null_count:,} rows; remove these rows")
    if pa.types.is_integer(column.type):
        numbers: Ids = column.to_numpy().astype(np.int64)
        return numbers
    try:
        return np.array(column.cast(pa.string()).to_pylist(), np.str_)
    except pa.ArrowException as error:
        raise DataError(f"{path}: {name} is of type {column.type}; ids are whole numbers or text") from error


def _item(item_id: int | str, row: dict[str, str | None], prefix: str, domain: str | None) -> Item:
    category = row.get("category")
    return Item(
        item_id=f"{prefix}{item_id}",
        title=row.get("title") or "",
        brand=row.get("brand") or None,
        category=[category] if category else [],
        domain=domain,
    )
