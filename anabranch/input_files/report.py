"""The report of `anabranch check`: files of events and items, each by itself, and how they join."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from anabranch.input_files.check import EventCheck, ItemCheck
from anabranch.input_files.columns import EVENT_ALIASES, map_columns
from anabranch.input_files.events import EventFile, EventOptions
from anabranch.input_files.faults import Faults, counted
from anabranch.input_files.items import ItemFile
from anabranch.input_files.table import Table, columns_in, require_columns


@dataclass(frozen=True)
class FilesReport:
    """The lines to print, and how many rows cannot be read."""

    lines: Sequence[str]
    fault_count: int


def check_files(files: Sequence[Path], options: EventOptions) -> FilesReport:
    """Read all files. `options.columns` may be of any of them.

    A file with columns of users and times holds events, any other holds items. Raises `UsageError` if a file as a whole
    cannot be read.
    """
    tables = [Table.open(path, options.encoding) for path in files]
    require_columns(options.columns, tables)
    lines, fault_count = list[str](), 0
    events: list[tuple[Path, EventCheck]] = []
    items: list[ItemCheck] = []
    for table in tables:
        given = columns_in(table, options.columns, EVENT_ALIASES)
        columns = map_columns(table.header, EVENT_ALIASES, given)
        if "user_id" in columns and "ts" in columns:
            event_file = EventFile.among(table, options)
            event_check = EventCheck.of(event_file.read())
            events.append((table.path, event_check))
            facts, faults = [*event_file.notes(), *event_check.lines()], event_check.faults
        else:
            item_file = ItemFile.among(table, options.columns)
            items.append(ItemCheck.of(item_file.read(delete=not item_file.has_titles)))
            facts, faults = [*item_file.notes(), *items[-1].lines()], items[-1].faults
        lines += [f"{table.path}", *(f"  {line}" for line in (*facts, *_fault_lines(faults)))]
        fault_count += faults.count
    if items:
        item_ids = set().union(*(check.item_ids for check in items))
        lines += [join_line(path, check, item_ids) for path, check in events]
    return FilesReport(lines, fault_count)


def _fault_lines(faults: Faults) -> list[str]:
    if not faults.count:
        return ["every row can be read"]
    return [f"{counted(faults.count, 'row')} cannot be read:", *faults.lines()]


def join_line(path: Path, check: EventCheck, item_ids: set[str]) -> str:
    """How many events of a file name items of the catalogue, for the user."""
    about_items, unknown = sum(check.events_by_item.values()), check.events_without_item(item_ids)
    if unknown and unknown == about_items:
        return f"{path}: NO event names an item of the catalogue; are the ids written in the same way?"
    if unknown:
        return f"{path}: {unknown:,} of {about_items:,} events name an item that is not in the catalogue"
    return f"{path}: every event names an item of the catalogue"
