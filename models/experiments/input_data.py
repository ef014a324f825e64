"""The data that `share` and `evaluate` read: folders of benchmark data, or a file of events and one of items."""

from __future__ import annotations

from pathlib import Path

from anabranch.errors import UsageError
from anabranch.input_files.check import require_all
from anabranch.input_files.events import EventFile
from anabranch.input_files.items import ItemFile
from anabranch.messages import Item
from models.data.event_log import EventLog
from models.experiments import benchmark
from models.experiments.benchmark import OfflineBenchmark
from models.experiments.choices import EvaluationProtocol
from models.pipeline.config import ReleaseCandidateConfig


def read_log(data: list[Path], items: Path | None) -> tuple[EventLog, list[Item]]:
    """A file of events, sorted by time, and its catalogue. Raises `UsageError`, and `FaultyFile` if rows cannot
    be read."""
    if len(data) != 1 or not data[0].is_file():
        raise UsageError("this protocol reads one file of events: give it as --data, and its catalogue as --items")
    if items is None:
        raise UsageError("a file of events needs its catalogue: give it as --items")
    catalogue = [item for item in require_all(ItemFile.open(items).read(), items) if isinstance(item, Item)]
    events = require_all(EventFile.open(data[0]).read("sorted"), data[0])
    return EventLog.from_events(events, [item.item_id for item in catalogue]), catalogue


def read_benchmark(
    protocol: EvaluationProtocol, data: list[Path], items: Path | None, share: float, config: ReleaseCandidateConfig
) -> OfflineBenchmark:
    """The data, divided once into events to learn from and a test. Raises `UsageError`, `FaultyFile`, `DataError`."""
    if protocol is EvaluationProtocol.LEAVE_ONE_OUT:
        return benchmark.leave_one_out_benchmark(data, config)
    if protocol is EvaluationProtocol.SESSIONS:
        if len(data) != 1:
            raise UsageError("sessions of several folders have no common order of time: give one --data")
        return benchmark.session_benchmark(data[0], config)
    log, catalogue = read_log(data, items)
    return benchmark.time_split_benchmark(data[0].stem, log, catalogue, share, config)
