"""Data sets for measuring: folders of parquet files in one neutral form, as event logs.

`train.parquet` and so on hold `user_id, position, item_id`, one row an event, position being the order within the
user; `items.parquet`, where there is one, `item_id, title, brand, category`. They carry no time stamps, so times are
made up from what they tell of the order, at even paces, so that no model can read anything else from them.
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
from models.data.event_log import NONE, EventLog

MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS
BEGINNING = 1_600_000_000_000
COLUMNS = ("user_id", "position", "item_id")


class DataError(AnabranchError):
    """A data folder that is not in the neutral form."""


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
            raise DataError(f"{path} is missing: a data folder needs it for this protocol")
        table = parquet.read_table(path)
        missing = [name for name in COLUMNS if name not in table.column_names]
        if missing:
            raise DataError(f"{path} lacks the column {', '.join(missing)}; it has {', '.join(table.column_names)}")
        user, position, item = (table[name].to_numpy().astype(np.int64) for name in COLUMNS)
        order = np.lexsort((position, user))
        return cls(user[order], position[order], item[order])


def sessions(folder: Path) -> tuple[EventLog, EventLog, list[Item]]:
    """Train log, test log and items of a folder whose users are sessions.

    Sessions begin a minute apart in the order of their numbers, those of the test after all others, and have
    half a minute between events.
    """
    train, test = Part.read(folder / "train.parquet"), Part.read(folder / "test.parquet")
    items = _items(folder, [train, test])
    earlier, later = session_logs([train, test], items)
    return earlier, later, items


def periods(folder: Path) -> tuple[list[EventLog], list[Item]]:
    """Logs of `period_00.parquet` and so on, one after another in time, and the items."""
    paths = sorted(folder.glob("period_*.parquet"))
    if len(paths) < 2:
        raise DataError(
            f"{folder} has {len(paths)} files period_*.parquet: at least two are needed to learn and predict"
        )
    parts = [Part.read(path) for path in paths]
    items = _items(folder, parts)
    return session_logs(parts, items), items


def session_logs(parts: Sequence[Part], items: Sequence[Item]) -> list[EventLog]:
    """One log a part; users, which are sessions, are numbered through over all of them."""
    logs, users = [], 0
    of_part = [np.unique(part.user, return_inverse=True) for part in parts]
    user_ids = tuple(f"{at}-{user}" for at, (names, _) in enumerate(of_part) for user in names.tolist())
    numbers = np.array([int(one.item_id) for one in items])  # sorted, as `_items` made them
    item_ids = tuple(one.item_id for one in items)
    begins = BEGINNING
    for part, (names, place) in zip(parts, of_part, strict=True):
        user = users + place
        ts = begins + place * MINUTE_MS + part.position * (MINUTE_MS // 2)
        begins = int(ts.max()) + MINUTE_MS  # no session goes on into the next part
        log = EventLog.from_columns(
            user,
            np.searchsorted(numbers, part.item),
            np.full(len(user), _VIEW),
            ts,
            user,
            user_ids=user_ids,
            item_ids=item_ids,
        )
        logs.append(log)
        users += len(names)
    return logs


@dataclass(frozen=True)
class LeaveOneOut:
    """Every user's last event for the test, the one before it for validation, all others to learn from."""

    log: EventLog
    items: list[Item]
    validation_from: int
    """ms: what happens before is to learn from."""
    test_from: int
    """ms"""


def leave_one_out(folders: Sequence[Path]) -> LeaveOneOut:
    """One folder, or several as domains of one catalogue: their ids then begin with the folder's name.

    All users end at the same time, and have an hour between events.
    """
    logs, items = [], []
    users: list[str] = []
    for folder in folders:
        prefix = f"{folder.name}:" if len(folders) > 1 else ""
        parts = [Part.read(folder / f"{name}.parquet") for name in ("train", "val", "test")]
        own = _items(folder, parts, prefix, folder.name if prefix else None)
        names = np.unique(np.concatenate([part.user for part in parts]))
        events = np.bincount(np.searchsorted(names, parts[0].user), minlength=len(names))
        for at, part in enumerate(parts):
            user = np.searchsorted(names, part.user)
            nth = np.arange(len(part)) - np.searchsorted(part.user, part.user)  # of the user's in this part
            ago = (events[user] - nth - 1) * HOUR_MS if at == 0 else np.zeros(len(part), np.int64)
            ts = BEGINNING + (at - 1) * HOUR_MS - ago
            logs.append((len(users) + user, part.item, ts, prefix))
        users += [f"{prefix}{user}" for user in names.tolist()]
        items += own
    place = {item.item_id: at for at, item in enumerate(items)}
    columns = [
        np.concatenate([user for user, *_ in logs]),
        np.concatenate([[place[f"{prefix}{one}"] for one in item.tolist()] for _, item, _, prefix in logs]),
        np.concatenate([ts for _, _, ts, _ in logs]),
    ]
    types, session = np.full(len(columns[0]), _VIEW), np.full(len(columns[0]), NONE)
    log = EventLog.from_columns(
        columns[0],
        columns[1],
        types,
        columns[2],
        session,
        user_ids=tuple(users),
        item_ids=tuple(item.item_id for item in items),
    )
    return LeaveOneOut(log, items, BEGINNING, BEGINNING + HOUR_MS)


_VIEW = EVENT_TYPES.index("view")


def _items(folder: Path, parts: Sequence[Part], prefix: str = "", domain: str | None = None) -> list[Item]:
    """Every item that is described or occurs, by its number; without a description the title is empty."""
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
