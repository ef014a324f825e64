"""A shop that uses Anabranch as README.md says: data in files, every step an `anabranch` command, one topic prefix."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as parquet

from anabranch.harness.environment.processes import ChildProcess
from producers import completejourney

HOUSEHOLDS, HISTORY_WEEKS, RANDOM_SEED = 150, 6, 3
MOST_BOUGHT = 1_000
"""Only these items: embedding their texts takes most of the time to train a release."""
LIVE_EVENTS = 200
ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Shop:
    """The files and the environment of one shop."""

    folder: Path
    environment: dict[str, str]

    @property
    def items(self) -> Path:
        """The catalogue."""
        return self.folder / "items.parquet"

    @property
    def history(self) -> Path:
        """Purchases that the first release learns from."""
        return self.folder / "history.parquet"

    @property
    def live(self) -> Path:
        """Purchases of the week after."""
        return self.folder / "live.parquet"

    @property
    def releases(self) -> Path:
        """The folder of releases."""
        return self.folder / "releases"

    def run(self, *arguments: str) -> str:
        """Run `anabranch ARGUMENTS` to its end, which must be a good one. Returns its output."""
        return run_python("-m", "anabranch", *arguments, environment=self.environment)

    def start(self, *arguments: str) -> ChildProcess:
        """Start `anabranch ARGUMENTS` in the background."""
        command, log = [sys.executable, "-m", "anabranch", *arguments], self.folder / f"{arguments[0]}.log"
        child = ChildProcess(f"anabranch {arguments[0]}", command, log, self.environment)
        child.start()
        return child


def open_shop(folder: Path, bootstrap_servers: str, topic_prefix: str) -> Shop:
    """Write the shop's files: the purchases of some households, of the items that they bought most."""
    purchases = completejourney.purchases(RANDOM_SEED, (1, HISTORY_WEEKS + 1)).of_households(HOUSEHOLDS, RANDOM_SEED)
    events = list(purchases.events())
    items = {item for item, _ in Counter(event.item_id for event in events).most_common(MOST_BOUGHT)}
    history_events = len(purchases.in_weeks(1, HISTORY_WEEKS))
    settings = {
        "BOOTSTRAP_SERVERS": bootstrap_servers,
        "TOPIC_PREFIX": topic_prefix,
        "DATA_DIR": str(folder),
        "RELEASES_DIR": str(folder / "releases"),
        "PARTITIONS": "2",
    }
    environment = {f"ANABRANCH_{name}": value for name, value in settings.items()}
    shop = Shop(folder, os.environ | environment | {"COLUMNS": "160", "PYTHONPATH": str(ROOT)})
    catalogue = [item for item in completejourney.catalogue() if item.item_id in items]
    _write(shop.items, [{"item_id": item.item_id, "title": item.title, "brand": item.brand} for item in catalogue])
    columns = ("event_id", "user_id", "item_id", "ts", "session_id")
    rows = [{name: getattr(event, name) for name in columns} for event in events]
    _write(shop.history, [row for row in rows[:history_events] if row["item_id"] in items])
    _write(shop.live, [row for row in rows[history_events:] if row["item_id"] in items][:LIVE_EVENTS])
    return shop


def run_python(*arguments: str, environment: dict[str, str], working_dir: Path = ROOT) -> str:
    """Run Python to the end of the program, which must be a good one. Returns its standard output."""
    ended = subprocess.run(
        [sys.executable, *arguments], env=environment, cwd=working_dir, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


def _write(path: Path, rows: list[dict[str, object]]) -> None:
    parquet.write_table(pa.Table.from_pylist(rows), path)
