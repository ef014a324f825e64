"""The event store of the retraining job: all events it has read from Kafka, as parquet parts with their offsets.

A part stores the offsets that follow its events, and appears by one atomic rename. So a job that dies before the rename
reads the same messages again and writes the same part.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from anabranch.durable_files import create_folder, replaced_durably
from anabranch.messages import EVENT_TYPES, Event
from models.data.event_log import NONE, EventColumns, EventLog

NextOffsets = dict[str, dict[int, int]]
"""Topic → partition → next offset to read."""

_COLUMNS = ("event_id", "user_id", "item_id", "type", "ts", "session_id", "query", "domain")
_PROPENSITY = "propensity"
_NEXT_OFFSETS = b"anabranch.positions"


@dataclass
class EventStore:
    """A folder of numbered parquet parts."""

    folder: Path
    next_offsets: NextOffsets = field(default_factory=dict)

    @classmethod
    def open(cls, folder: Path) -> EventStore:
        """Open the folder, creating it if needed, with the offsets of its newest part."""
        create_folder(folder)
        store = cls(folder)
        parts = store._parts()
        if parts:
            metadata = pq.read_schema(parts[-1]).metadata
            store.next_offsets = msgspec.json.decode(metadata[_NEXT_OFFSETS], type=NextOffsets)
        return store

    def append(
        self, events: Sequence[Event], next_offsets: NextOffsets, propensities: Sequence[float | None] | None = None
    ) -> None:
        """Write one part: the events, and the offsets that follow them. It is on the disk on return.

        `propensities` [N] are the probabilities with which the events' items were shown; None: not known of any.
        """
        columns = {name: [getattr(event, name) for event in events] for name in _COLUMNS}
        columns["item_id"] = [event.item_of_interest for event in events]
        columns[_PROPENSITY] = [None] * len(events) if propensities is None else list(propensities)
        table = pa.table(columns, _SCHEMA)
        table = table.replace_schema_metadata({_NEXT_OFFSETS: msgspec.json.encode(next_offsets)})
        part = self.folder / f"part-{len(self._parts()):06d}.parquet"
        with replaced_durably(part) as unfinished:
            pq.write_table(table, unfinished)
        self.next_offsets = next_offsets

    def log(self, item_ids: Sequence[str] = ()) -> EventLog:
        """All events as a log; `item_ids` have the first item numbers."""
        tables = [pq.read_table(part, columns=list(_COLUMNS[1:7])) for part in self._parts()]
        if not tables:
            return EventLog.from_events([], item_ids)
        table = pa.concat_tables(tables).combine_chunks()
        users = table["user_id"].combine_chunks().dictionary_encode()
        sessions = table["session_id"].combine_chunks().dictionary_encode()
        types = pc.index_in(table["type"].combine_chunks(), pa.array(EVENT_TYPES))
        items, all_item_ids = _numbered(_items_of_interest(table), item_ids)
        queries = _search_queries(table).dictionary_encode()
        return EventLog.from_columns(
            EventColumns(
                user=users.indices.to_numpy(),
                item=items,
                type=types.to_numpy(),
                ts=table["ts"].to_numpy(),
                session=sessions.indices.fill_null(NONE).to_numpy(),
                query=queries.indices.fill_null(NONE).to_numpy(),
            ),
            user_ids=tuple(users.dictionary.to_pylist()),
            item_ids=all_item_ids,
            queries=tuple(queries.dictionary.to_pylist()),
        )

    def propensities(self) -> NDArray[np.float64]:
        """The probability [N] with which the item of each event of `log` was shown, NaN where that is not known."""
        parts = self._parts()
        if not parts:
            return np.empty(0)
        ts = np.concatenate([pq.read_table(part, columns=["ts"])["ts"].to_numpy() for part in parts])
        propensity = np.concatenate([self._propensities_of(part).to_numpy() for part in parts])
        return propensity[np.argsort(ts, kind="stable")]

    def _propensities_of(self, part: Path) -> pa.ChunkedArray:
        """A part that an earlier version wrote has none."""
        if _PROPENSITY in pq.read_schema(part).names:
            return pq.read_table(part, columns=[_PROPENSITY])[_PROPENSITY].cast(pa.float64()).fill_null(np.nan)
        return pa.chunked_array([np.full(pq.read_metadata(part).num_rows, np.nan)])

    def _parts(self) -> list[Path]:
        return sorted(self.folder.glob("part-*.parquet"))


_SCHEMA = pa.schema(
    [*((name, pa.int64() if name == "ts" else pa.string()) for name in _COLUMNS), (_PROPENSITY, pa.float64())]
)


def _items_of_interest(table: pa.Table) -> pa.Array:
    """Item ids [N], null as `Event.item_of_interest` is None. Earlier versions stored the item of a refund too."""
    items, is_refund = table["item_id"].combine_chunks(), pc.equal(table["type"].combine_chunks(), "refund")
    return pc.if_else(is_refund, pa.scalar(None, pa.string()), items)


def _search_queries(table: pa.Table) -> pa.Array:
    """Texts of the searches [N], null as `Event.search_query` is None."""
    queries, is_search = table["query"].combine_chunks(), pc.equal(table["type"].combine_chunks(), "search")
    return pc.if_else(is_search, queries, pa.scalar(None, pa.string()))


def _numbered(items: pa.Array, item_ids: Sequence[str]) -> tuple[pa.Array, tuple[str, ...]]:
    """Item numbers [N], NONE for null, and the ids by number: `item_ids` first, then the others as they appear."""
    first = pa.array(item_ids, pa.string())
    unique = items.drop_null().unique()
    others = unique.filter(pc.invert(pc.is_in(unique, first)))
    all_ids = pa.concat_arrays([first, others])
    numbers = pc.index_in(items, all_ids).fill_null(NONE)
    return numbers.to_numpy(), tuple(all_ids.to_pylist())
