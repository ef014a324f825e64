"""Demo data from a shop's own files: one of events and, if there is one, one of items."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from anabranch.errors import UsageError
from anabranch.harness.demo.data import DemoData, Segment
from anabranch.input_files.check import Content, EventCheck, ItemCheck, without_faults
from anabranch.input_files.events import EventFile, EventOptions
from anabranch.input_files.faults import Faults, counted
from anabranch.input_files.items import ItemFile, newest_items
from anabranch.input_files.table import Table, require_columns
from anabranch.input_files.times import as_iso
from anabranch.messages import Event, Item

MIN_EVENTS = 20
"""With fewer there is not an event for each part of the demo."""

Say = Callable[[Path, Content, Sequence[str], Faults], Path | None]
"""Says how a file was read. Raises `FaultyFile` if rows cannot be read, unless they are left out: then it returns the
file in which they are listed."""


@dataclass(frozen=True)
class PlaySchedule:
    """How much of a file is played, and when a re-share begins."""

    history_share: float = 0.7
    """Share of the events, from the earliest on, that comes before the first re-share."""
    reshares: int = 2
    """The other events are divided into so many segments of equal size."""
    max_events: int | None = 100_000
    """The newest so many events, and the items that they name; None: everything."""


@dataclass(frozen=True)
class ShopFiles:
    """The files, and how they are read."""

    events: Path
    items: Path | None
    options: EventOptions
    """The columns may be of either file."""
    say: Say

    def data(self, schedule: PlaySchedule) -> DemoData:
        """Everything is read first. Raises `UsageError`, and `FaultyFile` if rows cannot be read."""
        tables = {path: Table.open(path, self.options.encoding) for path in (self.events, self.items) if path}
        require_columns(self.options.columns, list(tables.values()))
        events = self._read_events(tables[self.events])
        played = events if schedule.max_events is None else events[-schedule.max_events :]
        if self.items is None:
            items, notes = _items_named_by(played)
        else:
            items, notes = self._catalogue(tables[self.items], played, everything=schedule.max_events is None)
        if len(played) < len(events):
            notes = [f"the newest {len(played):,} of {len(events):,} events are played; --full plays all", *notes]
        return _divide(self.events.name, notes, items, played, schedule)

    def _read_events(self, table: Table) -> list[Event]:
        """The events, sorted by time."""
        file = EventFile.among(table, self.options)
        read = list(file.read("sorted"))
        check = EventCheck.of(read)
        skipped = self.say(table.path, "events", [*file.notes(), *check.lines()], check.faults)
        return list(without_faults(read, skipped))

    def _catalogue(self, table: Table, events: Sequence[Event], everything: bool) -> tuple[list[Item], list[str]]:
        """The items, or those that some events name, and what is to be said of them."""
        items = self._read_items(table)
        named = {event.item_id for event in events if event.item_id is not None}
        played = [item for item in items if item.item_id in named]
        if not played:
            raise UsageError(
                f"no event of {self.events} names an item of {table.path}: write the ids in both in the same way"
            )
        unknown = len(named) - len(played)
        notes = [f"{counted(unknown, 'item')} of the events are not in {table.path.name}"] if unknown else []
        if everything or len(played) == len(items):
            return items, notes
        return played, [*notes, f"the catalogue has the {len(played):,} of {len(items):,} items that the events name"]

    def _read_items(self, table: Table) -> list[Item]:
        file = ItemFile.among(table, self.options.columns)
        read = list(file.read())
        check = ItemCheck.of(read)
        skipped = self.say(table.path, "items", [*file.notes(), *check.lines()], check.faults)
        return newest_items(without_faults(read, skipped))


def _items_named_by(events: Iterable[Event]) -> tuple[list[Item], list[str]]:
    """An item for every id, with the id as its title, because an item needs some text."""
    item_ids = dict.fromkeys(event.item_id for event in events if event.item_id is not None)
    note = (
        f"no --items: the catalogue is made of the {len(item_ids):,} item ids of the events, with the id as title, so "
        "that only what users do tells items apart. Give --items, with titles, to rank by text too"
    )
    return [Item(item_id=item_id, title=item_id) for item_id in item_ids], [note]


def _divide(
    name: str, notes: Sequence[str], items: Sequence[Item], events: Sequence[Event], schedule: PlaySchedule
) -> DemoData:
    """Divide the events by time. Raises `UsageError` if there are too few."""
    if len(events) < MIN_EVENTS or int((1 - schedule.history_share) * len(events)) < schedule.reshares:
        raise UsageError(
            f"{name} has {counted(len(events), 'event')}, too few to be divided into a history "
            f"(--history-share {schedule.history_share:g}) and {counted(schedule.reshares, 'segment')} (--reshares)"
        )
    first = round(schedule.history_share * len(events))
    rest, count = events[first:], schedule.reshares
    bounds = [index * len(rest) // count for index in range(count + 1)]
    parts = [rest[start:end] for start, end in pairwise(bounds)]
    segments = [Segment(f"segment {number}", part) for number, part in enumerate(parts, start=1)]
    spans = [("history", events[:first]), *((segment.name, segment.events) for segment in segments)]
    return DemoData(
        title=f"{name}: {counted(len(events), 'event')} about {counted(len(items), 'item')}",
        notes=[*notes, *(f"{part}: {as_iso(span[0].ts)} to {as_iso(span[-1].ts)}" for part, span in spans)],
        items=items,
        history=events[:first],
        segments=segments,
    )
