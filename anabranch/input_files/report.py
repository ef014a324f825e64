"""The report of `anabranch check`: files of events and items, each by itself, and how they join."""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from anabranch.errors import UsageError
from anabranch.input_files.check import EventCheck, ItemCheck
from anabranch.input_files.columns import EVENT_ALIASES, ITEM_ALIASES, is_column, map_columns
from anabranch.input_files.events import EventFile, EventOptions
from anabranch.input_files.faults import Faults, counted
from anabranch.input_files.items import ItemFile
from anabranch.input_files.table import Given, Table

FIELDS = {**EVENT_ALIASES, **ITEM_ALIASES}


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
    _require_columns(options.columns, tables)
    lines, fault_count = list[str](), 0
    events: list[tuple[Path, EventCheck]] = []
    items: list[ItemCheck] = []
    for table in tables:
        given = _of_table(options.columns, table, EVENT_ALIASES)
        columns = map_columns(table.header, EVENT_ALIASES, given)
        if "user_id" in columns and "ts" in columns:
            event_file = EventFile(table, replace(options, columns=given))
            event_check = EventCheck.of(event_file.read())
            events.append((table.path, event_check))
            facts, faults = [*event_file.notes(), *event_check.lines()], event_check.faults
        else:
            item_file = ItemFile(table, _of_table(options.columns, table, ITEM_ALIASES))
            items.append(ItemCheck.of(item_file.read(delete=not item_file.has_titles)))
            facts, faults = [*item_file.notes(), *items[-1].lines()], items[-1].faults
        lines += [f"{table.path}", *(f"  {line}" for line in (*facts, *_fault_lines(faults)))]
        fault_count += faults.count
    if items:
        item_ids = set().union(*(check.item_ids for check in items))
        lines += [_join_line(path, check, item_ids) for path, check in events]
    return FilesReport(lines, fault_count)


def _require_columns(given: Given, tables: Sequence[Table]) -> None:
    for names in given.values():
        for column in names:
            if not any(is_column(column, table.header) for table in tables):
                headers = "; ".join(f"{table.path} has {', '.join(table.header)}" for table in tables)
                raise UsageError(f"--columns: there is no column {column}; {headers}")


def _of_table(given: Given, table: Table, fields: Container[str]) -> Given:
    """The given columns that are of these fields, and in this table."""
    return {
        name: columns
        for name, columns in given.items()
        if name in fields and all(is_column(column, table.header) for column in columns)
    }


def _fault_lines(faults: Faults) -> list[str]:
    if not faults.count:
        return ["every row can be read"]
    return [f"{counted(faults.count, 'row')} cannot be read:", *faults.lines()]


def _join_line(path: Path, check: EventCheck, item_ids: set[str]) -> str:
    about_items, unknown = sum(check.events_by_item.values()), check.events_without_item(item_ids)
    if unknown and unknown == about_items:
        return f"{path}: NO event names an item of the catalogue; are the ids written in the same way?"
    if unknown:
        return f"{path}: {unknown:,} of {about_items:,} events name an item that is not in the catalogue"
    return f"{path}: every event names an item of the catalogue"
