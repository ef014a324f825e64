"""The data that `share` and `evaluate` read: folders of benchmark data, or a file of events and one of items."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from anabranch.errors import UsageError
from anabranch.input_files.check import EventCheck, require_all
from anabranch.input_files.events import EventFile, EventOptions
from anabranch.input_files.items import ItemFile, newest_items
from anabranch.input_files.report import join_line
from anabranch.input_files.table import Table, require_columns
from anabranch.messages import Event, Item
from models.data.catalogue_join import join_catalogue
from models.data.datasets import periods
from models.data.event_log import EventLog
from models.experiments import benchmark
from models.experiments.benchmark import OfflineBenchmark
from models.experiments.choices import KIND_OF_FOLDERS, EvaluationProtocol, TrainingRows
from models.experiments.continual import weeks_of
from models.pipeline.config import ReleaseCandidateConfig
from models.pipeline.data_kind import KindDecision, find_kind
from models.pipeline.forgotten_items import forgotten_items
from models.pipeline.presets import Kind


@dataclass(frozen=True)
class InputFiles:
    """Where the data is, and how files of events and items are read."""

    data: Sequence[Path]
    """Folders of benchmark data, or one file of events, which may be a folder of parts."""
    items: Path | None = None
    """The catalogue of a file of events."""
    options: EventOptions = field(default_factory=EventOptions)
    """The columns may be of either file."""
    say: Callable[[str], None] = lambda line: None
    """Called with every line about how the files were read."""

    def check(self, protocol: EvaluationProtocol) -> None:
        """Raises `UsageError` unless data, catalogue and options are what a protocol reads."""
        if self.are_folders(protocol):
            self._require_folders(protocol)
        elif len(self.data) != 1:
            raise UsageError(f"protocol {protocol.value} reads one file of events: give one --data")
        elif self.items is None:
            raise UsageError(
                f"protocol {protocol.value} reads a file of events and its catalogue: give it as --items. For a folder "
                "of benchmark data pass --protocol sessions, leave-one-out or weekly"
            )

    def are_folders(self, protocol: EvaluationProtocol) -> bool:
        """Whether a protocol reads them as folders of benchmark data. Weeks are also found in a file of events."""
        return protocol in KIND_OF_FOLDERS and not (protocol is EvaluationProtocol.WEEKLY and self.items is not None)

    def read_log(self) -> tuple[EventLog, list[Item]]:
        """A file of events, sorted by time, and its catalogue.

        Raises `UsageError`, and `FaultyFile` if rows cannot be read.
        """
        assert self.items is not None
        tables = [Table.open(path, self.options.encoding) for path in (self.items, self.data[0])]
        require_columns(self.options.columns, tables)
        catalogue = self._read_items(tables[0])
        events = self._read_events(tables[1], {item.item_id for item in catalogue})
        return EventLog.from_events(events, [item.item_id for item in catalogue]), catalogue

    def _require_folders(self, protocol: EvaluationProtocol) -> None:
        files = [str(path) for path in self.data if path.is_file()]
        if files:
            raise UsageError(
                f"protocol {protocol.value} reads folders of parquet files, and {', '.join(files)} is a file. For a "
                "file of events pass --protocol time-split, and its catalogue as --items"
            )
        if len(self.data) > 1 and protocol is not EvaluationProtocol.LEAVE_ONE_OUT:
            raise UsageError(f"protocol {protocol.value} reads one folder: give one --data")
        if self.items is not None or self.options != EventOptions():
            raise UsageError(
                f"protocol {protocol.value} reads folders of parquet files: --items, --columns, --types, --type and "
                "--encoding are for a file of events"
            )

    def _read_items(self, table: Table) -> list[Item]:
        file = ItemFile.among(table, self.options.columns)
        items = newest_items(require_all(file.read(), table.path))
        self._say_of(table.path, [*file.notes(), f"{len(items):,} items"])
        return items

    def _read_events(self, table: Table, item_ids: set[str]) -> list[Event]:
        file = EventFile.among(table, self.options)
        events = list(require_all(file.read("sorted"), table.path))
        check = EventCheck.of(events)
        self._say_of(table.path, [*file.notes(), *check.lines()])
        self.say(join_line(table.path, check, item_ids))
        return events

    def _say_of(self, path: Path, facts: Sequence[str]) -> None:
        for line in (f"{path}", *(f"  {fact}" for fact in facts)):
            self.say(line)


@dataclass(frozen=True)
class Division:
    """How data is divided into events to learn from, and a test."""

    protocol: EvaluationProtocol
    share: float = 0.8
    """Share of a file of events that comes before the test."""
    train_on: TrainingRows | None = None
    """Which events of a leave-one-out data set are learned; None: all before the test."""
    validation: bool = False
    """Leave the test out, and divide the events before it again: for tuning."""
    new_items: float = 0.0
    """Share of the items whose events for training are left out, so that they are new in the test."""

    def check(self) -> None:
        """Raises `UsageError` for what does not fit the protocol."""
        if self.train_on is not None and self.protocol is not EvaluationProtocol.LEAVE_ONE_OUT:
            raise UsageError(f"--train-on is for protocol leave-one-out, not for {self.protocol.value}: leave it out")
        if self.validation and self.protocol is EvaluationProtocol.WEEKLY:
            raise UsageError("--validation is for protocols with one test: protocol weekly tests every period")
        if self.new_items:
            self.require_one_test("--new-items")

    def require_one_test(self, option: str) -> None:
        """Raises `UsageError`, which names the option, if the protocol has several tests, or none of its own."""
        if self.protocol in (EvaluationProtocol.WEEKLY, EvaluationProtocol.PREQUENTIAL):
            raise UsageError(
                f"{option} is for protocols with one test: sessions, leave-one-out and time-split, not for "
                f"{self.protocol.value}: leave it out"
            )


def read_benchmark(
    division: Division,
    files: InputFiles,
    kind: Kind | None,
    configure: Callable[[Kind], ReleaseCandidateConfig],
) -> OfflineBenchmark:
    """The data, divided once into events to learn from and a test, with the configuration for its kind.

    Without a `kind`, it is the usual one of the protocol's folders, or found from the events before the test; histories
    of folders may be found to be long. Raises `UsageError`, `FaultyFile`, `DataError` and `NotEnoughData`.
    """
    files.check(division.protocol)
    division.check()
    if division.protocol is EvaluationProtocol.WEEKLY:
        raise UsageError("protocol weekly compares releases of several periods: run it with `anabranch evaluate`")
    data = _divide(division, files)
    if division.validation:
        data = benchmark.validation_benchmark(data)
    if division.new_items:
        data = benchmark.with_new_items(data, division.new_items)
    decision = _kind_of(division.protocol, files, data.train_log, kind)
    files.say(f"kind of data: {decision.kind} ({decision.reason})")
    config = configure(decision.kind)
    if (forgotten := forgotten_items(data.train_log, config)) is not None:
        files.say(forgotten)
    return replace(data, config=config)


def read_weeks(
    division: Division,
    files: InputFiles,
    kind: Kind | None,
    configure: Callable[[Kind], ReleaseCandidateConfig],
) -> tuple[list[EventLog], list[Item], ReleaseCandidateConfig]:
    """The periods of a folder, or of a file of events: the first share of them, then week by week.

    Also the items, and the configuration for the kind of data. Raises `UsageError`, `FaultyFile`, `DataError` and
    `NotEnoughData`.
    """
    files.check(division.protocol)
    division.check()
    if files.are_folders(division.protocol):
        logs, items = periods(files.data[0])
    else:
        log, items = files.read_log()
        logs = weeks_of(join_catalogue(log, [item.item_id for item in items]), division.share)
    decision = _kind_of(division.protocol, files, logs[0], kind)
    return logs, items, configure(decision.kind)


def _divide(division: Division, files: InputFiles) -> OfflineBenchmark:
    if division.protocol is EvaluationProtocol.LEAVE_ONE_OUT:
        rows = division.train_on or TrainingRows.TRAIN_AND_VALIDATION
        return benchmark.leave_one_out_benchmark(files.data, rows, ReleaseCandidateConfig())
    if division.protocol is EvaluationProtocol.SESSIONS:
        return benchmark.session_benchmark(files.data[0], ReleaseCandidateConfig())
    log, catalogue = files.read_log()
    return benchmark.time_split_benchmark(files.data[0].stem, log, catalogue, division.share, ReleaseCandidateConfig())


def _kind_of(protocol: EvaluationProtocol, files: InputFiles, log: EventLog, named: Kind | None) -> KindDecision:
    if named is not None:
        return KindDecision.named(named)
    if not files.are_folders(protocol):
        return find_kind(log)
    if protocol is EvaluationProtocol.LEAVE_ONE_OUT:
        decision = find_kind(log)
        if decision.kind == "long_histories":
            return decision
    return KindDecision(KIND_OF_FOLDERS[protocol].value, f"usual for protocol {protocol.value}", {})
