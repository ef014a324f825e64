"""Everything that can be said of input files before anything is published."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import IO, Literal, TypeVar

import msgspec

from anabranch.input_files.faults import Faults, RowFault, counted
from anabranch.input_files.items import RemovedItem
from anabranch.input_files.times import as_iso
from anabranch.messages import Event, Item

Content = Literal["events", "items"]
"""What a file is read as."""
Message = TypeVar("Message", bound=Event | Item | RemovedItem)


@dataclass
class EventCheck:
    """What a file of events holds."""

    faults: Faults = field(default_factory=Faults)
    events: int = 0
    types: Counter[str] = field(default_factory=Counter)
    user_ids: set[str] = field(default_factory=set)
    events_by_item: Counter[str] = field(default_factory=Counter)
    first_ts: int | None = None
    last_ts: int | None = None
    in_order: bool = True
    repeated_ids: int = 0
    """Events with an id that an earlier event has."""
    _event_ids: set[int] = field(default_factory=set)
    _digest: blake2b = field(default_factory=lambda: blake2b(digest_size=12))

    @classmethod
    def of(cls, read: Iterable[Event | RowFault]) -> EventCheck:
        """Read everything."""
        check = cls()
        for event in check.faults.collect(read):
            check._add(event)
        return check

    @property
    def file_id(self) -> str:
        """A digest of the ids of all events, in their order."""
        return self._digest.hexdigest()

    def events_without_item(self, item_ids: set[str]) -> int:
        """How many events name an item that is not among these."""
        return sum(count for item_id, count in self.events_by_item.items() if item_id not in item_ids)

    def lines(self) -> list[str]:
        """One line per fact."""
        if self.first_ts is None or self.last_ts is None:
            return ["no events"]
        types = ", ".join(f"{count:,} {name}" for name, count in self.types.most_common())
        lines = [
            f"{counted(self.events, 'event')}: {types}",
            f"{counted(len(self.user_ids), 'user')}, {counted(len(self.events_by_item), 'item')}",
            f"from {as_iso(self.first_ts)} to {as_iso(self.last_ts)}",
        ]
        if not self.in_order:
            lines.append("not in order of time: pass --sort to `replay`")
        if self.repeated_ids:
            lines.append(f"{counted(self.repeated_ids, 'event')} with the id of an earlier one, which rankers ignore")
        return lines

    def _add(self, event: Event) -> None:
        self.events += 1
        self.types[event.type] += 1
        self.user_ids.add(event.user_id)
        if event.item_id is not None:
            self.events_by_item[event.item_id] += 1
        self.in_order &= self.last_ts is None or event.ts >= self.last_ts
        self.first_ts = event.ts if self.first_ts is None else min(self.first_ts, event.ts)
        self.last_ts = event.ts if self.last_ts is None else max(self.last_ts, event.ts)
        self._digest.update(event.event_id.encode() + b"\n")
        before = len(self._event_ids)
        self._event_ids.add(hash(event.event_id))
        self.repeated_ids += len(self._event_ids) == before


@dataclass
class ItemCheck:
    """What a file of items holds."""

    faults: Faults = field(default_factory=Faults)
    items: int = 0
    removed: int = 0
    available: int = 0
    item_ids: set[str] = field(default_factory=set)

    @classmethod
    def of(cls, read: Iterable[Item | RemovedItem | RowFault]) -> ItemCheck:
        """Read everything."""
        check = cls()
        items: Iterator[Item | RemovedItem] = check.faults.collect(read)
        for item in items:
            check._add(item)
        return check

    def __len__(self) -> int:
        return self.items + self.removed

    def lines(self) -> list[str]:
        """One line per fact."""
        lines = [f"{counted(self.items, 'item')}, {self.available:,} available"]
        if self.removed:
            lines.append(f"{counted(self.removed, 'item')} to remove")
        repeated = self.items + self.removed - len(self.item_ids)
        if repeated:
            lines.append(f"{counted(repeated, 'repetition')} of the id of an earlier row: the last row counts")
        return lines

    def _add(self, item: Item | RemovedItem) -> None:
        self.item_ids.add(item.item_id)
        if isinstance(item, Item):
            self.items += 1
            self.available += item.available
        else:
            self.removed += 1


def without_faults(read: Iterable[Message | RowFault], skipped: Path | None = None) -> Iterator[Message]:
    """Only the messages. The faults go to the file `skipped` as JSON lines, if there are any."""
    with ExitStack() as files:
        log: IO[bytes] | None = None
        for message in read:
            if not isinstance(message, RowFault):
                yield message
            elif skipped is not None:
                if log is None:
                    skipped.parent.mkdir(parents=True, exist_ok=True)
                    log = files.enter_context(skipped.open("wb"))
                entry = {"file": message.location.file, "row": message.location.row, "reason": message.reason}
                log.write(msgspec.json.encode(entry) + b"\n")


def require_all(read: Iterable[Message | RowFault], file: Path) -> Iterator[Message]:
    """The messages. Raises `FaultyFile` at the end, with the first faults, if there are any."""
    faults = Faults()
    yield from faults.collect(read)
    faults.require_none(str(file), "Correct these rows, or remove them")
