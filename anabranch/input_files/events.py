"""Events read from files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from pathlib import Path
from typing import Any, Literal, NamedTuple

import msgspec

from anabranch.errors import UsageError
from anabranch.input_files.cells import number, plain_text
from anabranch.input_files.columns import EVENT_ALIASES, parse_columns
from anabranch.input_files.faults import Location, RowFault, counted
from anabranch.input_files.rows import Cells
from anabranch.input_files.table import Fields, Given, Table, columns_in
from anabranch.input_files.times import Moment, parse_time
from anabranch.messages import EVENT_TYPES, Event
from anabranch.own_event_types import NO_OWN_TYPES, OwnEventTypes

Order = Literal["any", "required", "sorted"]
"""Of the events of a file, by time."""
IDS = ("user_id", "item_id", "session_id", "domain", "event_id")
IMPRESSION = "impression"
"""The event type of rows that say of one item that it was shown."""
REFUND = "refund"
"""The event type of rows with a quantity below 0, whatever their type is."""
FILE_TYPES = tuple(event_type for event_type in EVENT_TYPES if event_type != "rating")
"""Files have ratings on many scales: `--types` makes likes or dislikes of what has words for them."""
LEFT_OUT = ""
"""The type of rows that are not read."""
TYPE_ALIASES = {
    "addtocart": "cart",
    "add_to_cart": "cart",
    "add-to-cart": "cart",
    "basket": "cart",
    "transaction": "purchase",
    "buy": "purchase",
    "order": "purchase",
    "pageview": "view",
    "page_view": "view",
    "detail": "view",
    "pv": "view",
    "removefromcart": "remove_from_cart",
    "return": REFUND,
    "returned": REFUND,
    "refunded": REFUND,
}
"""Words for event types in public data, in lower case."""


@dataclass(frozen=True)
class EventOptions:
    """How a file of events is to be read."""

    columns: Given = field(default_factory=dict)
    types: Mapping[str, str] = field(default_factory=dict)
    """Word in the file → event type, or LEFT_OUT."""
    default_type: str = "purchase"
    """Of rows without a type."""
    encoding: str | None = None
    own_types: OwnEventTypes = field(default=NO_OWN_TYPES, compare=False)
    """Those of the settings; `types` count before them."""

    @classmethod
    def parse(
        cls,
        columns: str | None,
        types: str | None,
        default_type: str = "purchase",
        encoding: str | None = None,
        fields: Iterable[str] = EVENT_ALIASES,
        own_types: OwnEventTypes = NO_OWN_TYPES,
    ) -> EventOptions:
        """From the options of a command; `--columns` may name these fields. Raises `UsageError`."""
        if default_type not in FILE_TYPES:
            raise UsageError(f"--type: {default_type!r} is none of {', '.join(FILE_TYPES)}")
        return cls(parse_columns(columns, fields), parse_types(types), default_type, encoding, own_types)


def parse_types(text: str | None) -> dict[str, str]:
    """WORD=TYPE pairs separated by commas; `WORD=` leaves these rows out. Raises `UsageError`."""
    types: dict[str, str] = {}
    for pair in filter(None, (text or "").split(",")):
        word, equals, event_type = (part.strip() for part in pair.partition("="))
        if not equals or event_type not in (*FILE_TYPES, LEFT_OUT):
            raise UsageError(
                f"--types takes WORD=TYPE pairs, such as addtocart=cart, with the types {', '.join(FILE_TYPES)}; "
                f"WORD= leaves rows out; not {pair!r}"
            )
        types[word] = event_type
    return types


class Draft(NamedTuple):
    """The fields of an event, not checked yet."""

    location: Location
    fields: dict[str, Any]


class EventFile:
    """A file of events, or a folder of parts. It can be read several times, with the same events."""

    def __init__(self, table: Table, options: EventOptions) -> None:
        """Raises `UsageError`, with the columns, if a needed one is missing."""
        self._table = table
        self._options = options
        self._fields = Fields(table, EVENT_ALIASES, IDS, options.columns)
        self._fields.require(("user_id",), ("item_id", "query"), ("ts",))
        self._reader = _RowReader(self._fields, options)

    @classmethod
    def among(cls, table: Table, options: EventOptions) -> EventFile:
        """One of several files: the columns that the options name may be of any of them. Raises `UsageError`."""
        return cls(table, replace(options, columns=columns_in(table, options.columns, EVENT_ALIASES)))

    @classmethod
    def open(cls, path: Path, options: EventOptions | None = None) -> EventFile:
        """Reads all rows once. Raises `UsageError`."""
        options = options or EventOptions()
        return cls(Table.open(path, options.encoding), options)

    def read(self, order: Order = "any") -> Iterator[Event | RowFault]:
        """The events, and the rows that are none; without rows of types that are left out.

        `required`: a row that is earlier than the one before it is a fault. `sorted`: by time, rows of equal time in
        their order; this holds the file in memory. An event without an id gets a hash of its content, the same whenever
        the file is read. Equal rows (two of one product in a basket) get different ids, by a counter.
        """
        draft: Iterator[Draft | RowFault] = self._drafts()
        if order == "sorted":
            drafts: list[Draft] = []
            for read in draft:
                if isinstance(read, RowFault):
                    yield read
                else:
                    drafts.append(read)
            drafts.sort(key=lambda draft: draft.fields["ts"])
            draft = iter(drafts)
        elif order == "required":
            draft = _require_order(draft, self._fields.columns.column("ts"))
        yield from _to_events(draft)

    def _drafts(self) -> Iterator[Draft | RowFault]:
        self._reader = reader = _RowReader(self._fields, self._options)
        for row in self._table.rows():
            if isinstance(row, RowFault):
                yield row
                continue
            try:
                fields = reader.fields(row.cells)
            except ValueError as error:
                yield RowFault(row.location, str(error))
                continue
            if fields is not None:
                yield Draft(row.location, fields)

    def notes(self) -> list[str]:
        """How the file is read, one line per fact; all that depends on rows is of the last `read`."""
        notes = self._fields.notes()
        if "type" not in self._fields.columns:
            notes.append(f"no column of types: every event is a {self._options.default_type}")
        return [*notes, *self._reader.notes()]


class _RowReader:
    """Makes the fields of events from rows; remembers what must be the same in all rows."""

    def __init__(self, fields: Fields, options: EventOptions) -> None:
        self._fields = fields
        self._options = options
        self._unit: str | None = None
        self._time_forms = Counter[str]()
        self._words = Counter[tuple[str, str]]()
        """Word of the file and its event type, where they differ."""
        self._returns = 0
        """Rows that are refunds because of their quantity."""

    def fields(self, cells: Cells) -> dict[str, Any] | None:
        """The fields of the event in a row, None if it is left out. Raises `ValueError`."""
        event_type = self._type(cells)
        if event_type == LEFT_OUT:
            return None
        if self._is_return(cells):
            event_type = REFUND
        fields: dict[str, Any] = {"type": event_type, "ts": self._time(cells)}
        for name in IDS:
            value = self._fields.id(cells, name)
            if value is not None:
                fields[name] = value
        query = self._fields.value(cells, "query", plain_text)
        if query is not None:
            fields["query"] = query
        if event_type == IMPRESSION:
            if "item_id" not in fields:
                column = self._fields.columns.column("item_id")
                raise ValueError(f"{column} is empty: in a file, an impression is one row for each item")
            fields["shown"] = [fields.pop("item_id")]
        if "user_id" not in fields:
            raise ValueError(f"{self._fields.columns.column('user_id')} is empty")
        return fields

    def notes(self) -> list[str]:
        """What was found in the rows so far, one line per fact."""
        column = self._fields.columns.column("ts")
        forms = [f"{column}: {form} ({counted(count, 'row')})" for form, count in self._time_forms.most_common()]
        words = [
            f"type {word}: {_treatment(event_type)} ({counted(count, 'row')})"
            for (word, event_type), count in self._words.most_common()
        ]
        if self._returns:
            quantity = self._fields.columns.column("quantity")
            words.append(f"{quantity} below 0: read as {REFUND} ({counted(self._returns, 'row')})")
        return [*forms, *words]

    def _type(self, cells: Cells) -> str:
        word = self._fields.value(cells, "type", plain_text)
        if word is None:
            return self._options.default_type
        event_type = self._options.types.get(word)
        if event_type is None:
            event_type = self._options.own_types.get(word) or TYPE_ALIASES.get(word.lower(), word.lower())
        if event_type != word:
            self._words[word, event_type] += 1
        if event_type not in (*FILE_TYPES, LEFT_OUT):
            raise ValueError(
                f"{self._fields.columns.column('type')} {word!r} is none of {', '.join(FILE_TYPES)}; say which it is, "
                f"--types {word}=view, or leave such rows out, --types {word}="
            )
        return event_type

    def _is_return(self, cells: Cells) -> bool:
        quantity = self._fields.value(cells, "quantity", number)
        is_return = quantity is not None and quantity < 0
        self._returns += is_return
        return is_return

    def _time(self, cells: Cells) -> int:
        moment: Moment = self._fields.value(cells, "ts", parse_time)
        if moment.form.endswith("since 1970"):
            if self._unit not in (None, moment.form):
                raise ValueError(
                    f"{self._fields.columns.column('ts')} is in {moment.form}, and earlier rows are in {self._unit}; "
                    "give all in one unit"
                )
            self._unit = moment.form
        self._time_forms[moment.form] += 1
        return moment.ms


def _treatment(event_type: str) -> str:
    """What becomes of rows of a type, in words."""
    return f"read as {event_type}" if event_type else "left out"


def _require_order(drafts: Iterator[Draft | RowFault], column: str) -> Iterator[Draft | RowFault]:
    newest_ts = 0
    for draft in drafts:
        if not isinstance(draft, RowFault):
            ts = draft.fields["ts"]
            if ts < newest_ts:
                draft = RowFault(
                    draft.location, f"{column} is earlier than in a row before; sort the file, or pass --sort"
                )
            newest_ts = max(newest_ts, ts)
        yield draft


def _to_events(drafts: Iterator[Draft | RowFault]) -> Iterator[Event | RowFault]:
    """Events of drafts in order of time: the copies of a row follow each other at the same time."""
    ts, copies = -1, Counter[str]()
    for draft in drafts:
        if isinstance(draft, RowFault):
            yield draft
            continue
        fields = draft.fields
        if fields["ts"] != ts:
            ts, copies = fields["ts"], Counter()
        if "event_id" not in fields:
            digest = _digest(fields)
            copies[digest] += 1
            fields["event_id"] = digest if copies[digest] == 1 else f"{digest}-{copies[digest]}"
        try:
            yield msgspec.convert(fields, Event)
        except (ValueError, msgspec.ValidationError) as error:
            yield RowFault(draft.location, str(error))


def _digest(fields: dict[str, Any]) -> str:
    content = "\x1f".join(f"{name}={fields[name]}" for name in sorted(fields))
    return blake2b(content.encode(), digest_size=12).hexdigest()
