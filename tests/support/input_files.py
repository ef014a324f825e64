"""Small input files for tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from anabranch.input_files.events import EventFile, EventOptions, Order
from anabranch.input_files.faults import RowFault
from anabranch.input_files.items import ItemFile, RemovedItem
from anabranch.messages import Event, Item


def write(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def events_of(path: Path, order: Order = "any", **options: Any) -> list[Event]:
    """The events of a file without faults."""
    events = [read for read in EventFile.open(path, EventOptions.parse(**_with_defaults(options))).read(order)]
    assert not [read for read in events if isinstance(read, RowFault)]
    return [read for read in events if isinstance(read, Event)]


def event_faults(path: Path, order: Order = "any", **options: Any) -> list[str]:
    """The faults of a file of events, as they are printed."""
    read = EventFile.open(path, EventOptions.parse(**_with_defaults(options))).read(order)
    return [str(fault) for fault in read if isinstance(fault, RowFault)]


def items_of(path: Path, delete: bool = False) -> list[Item | RemovedItem]:
    items = list(ItemFile.open(path).read(delete))
    assert not [read for read in items if isinstance(read, RowFault)]
    return [read for read in items if not isinstance(read, RowFault)]


def item_faults(path: Path) -> list[str]:
    return [str(fault) for fault in ItemFile.open(path).read() if isinstance(fault, RowFault)]


def _with_defaults(options: dict[str, Any]) -> dict[str, Any]:
    return {"columns": None, "types": None} | options
