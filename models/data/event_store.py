"""The re-sharing job's journal: every event it has learned of, as parquet parts, with the offsets they reach.

Offsets live in the part that holds their events, so a part and its progress are written in one rename: a job
that dies half-way reads the same messages again and writes the same part.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from anabranch.messages import EVENT_TYPES, Event
from models.data.event_log import NONE, EventLog

Positions = dict[str, dict[int, int]]
"""Topic → partition → the next offset to read."""

_COLUMNS = ("event_id", "user_id", "item_id", "type", "ts", "session_id", "query", "domain")
_POSITIONS = b"anabranch.positions"


@dataclass
class EventStore:
    """A folder of numbered parquet parts."""

    folder: Path
    positions: Positions = field(default_factory=dict)

    @classmethod
    def open(cls, folder: Path) -> EventStore:
        """Open the folder, made at first use, at the offsets of its newest part."""
        folder.mkdir(parents=True, exist_ok=True)
        journal = cls(folder)
        parts = journal._parts()
        if parts:
            metadata = pq.read_schema(parts[-1]).metadata
            journal.positions = msgspec.json.decode(metadata[_POSITIONS], type=Positions)
        return journal

    def append(self, events: Sequence[Event], positions: Positions) -> None:
        """Write one part: the events, and the offsets after them."""
        table = pa.table({name: [getattr(event, name) for event in events] for name in _COLUMNS}, _SCHEMA)
        table = table.replace_schema_metadata({_POSITIONS: msgspec.json.encode(positions)})
        part = self.folder / f"part-{len(self._parts()):06d}.parquet"
        unfinished = part.with_suffix(".unfinished")
        pq.write_table(table, unfinished)
        unfinished.rename(part)
        self.positions = positions

    def log(self, item_ids: Sequence[str] = ()) -> EventLog:
        """All events in time order, their items numbered after the known `item_ids`."""
        tables = [pq.read_table(part, columns=list(_COLUMNS[1:6])) for part in self._parts()]
        if not tables:
            return EventLog.from_events([], item_ids)
        table = pa.concat_tables(tables).combine_chunks()
        users = table["user_id"].combine_chunks().dictionary_encode()
        sessions = table["session_id"].combine_chunks().dictionary_encode()
        items, known = _numbered(table["item_id"].combine_chunks(), item_ids)
        return EventLog.from_columns(
            user=users.indices.to_numpy(),
            item=items,
            type=pc.index_in(table["type"].combine_chunks(), pa.array(EVENT_TYPES)).to_numpy(),
            ts=table["ts"].to_numpy(),
            session=sessions.indices.fill_null(NONE).to_numpy(),
            user_ids=tuple(users.dictionary.to_pylist()),
            item_ids=known,
        )

    def _parts(self) -> list[Path]:
        return sorted(self.folder.glob("part-*.parquet"))


_SCHEMA = pa.schema([(name, pa.int64() if name == "ts" else pa.string()) for name in _COLUMNS])


def _numbered(items: pa.Array, item_ids: Sequence[str]) -> tuple[pa.Array, tuple[str, ...]]:
    """Item numbers [N], NONE for null, and the ids they index: `item_ids` first, then others as they appear."""
    known = pa.array(item_ids, pa.string())
    seen = items.drop_null().unique()
    new = seen.filter(pc.invert(pc.is_in(seen, known)))
    both = pa.concat_arrays([known, new])
    numbers = pc.index_in(items, both).fill_null(NONE)
    return numbers.to_numpy(), tuple(both.to_pylist())
