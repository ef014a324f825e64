"""What `share` and `evaluate` read: folders of benchmark data, or files of events and items."""

from __future__ import annotations

from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from anabranch.errors import UsageError

if TYPE_CHECKING:
    from anabranch.messages import Item
    from models.data.event_log import EventLog
    from models.experiments.benchmark import Benchmark
    from models.pipeline.config import ReleaseCandidateConfig


class Protocol(StrEnum):
    """How data is cut into what is learned and what is predicted."""

    SESSIONS = "sessions"
    LEAVE_ONE_OUT = "leave-one-out"
    WEEKLY = "weekly"
    TIME_SPLIT = "time-split"
    PREQUENTIAL = "prequential"


class DataKind(StrEnum):
    """What the order of events means, and so where training starts from: see `models.pipeline.presets`."""

    SESSIONS = "sessions"
    HISTORIES = "histories"
    BASKETS = "baskets"


class Way(StrEnum):
    """How a week is learned: see `models.experiments.continual`."""

    SHARED = "shared"
    RETRAINED = "retrained"
    FINE_TUNED = "fine_tuned"
    CO_VISIT = "co_visit"


KIND_OF = {
    Protocol.SESSIONS: DataKind.SESSIONS,
    Protocol.LEAVE_ONE_OUT: DataKind.HISTORIES,
    Protocol.WEEKLY: DataKind.SESSIONS,
    Protocol.TIME_SPLIT: DataKind.BASKETS,
    Protocol.PREQUENTIAL: DataKind.BASKETS,
}
"""Unless --kind says otherwise."""

Data = Annotated[
    list[Path],
    typer.Option(help="A folder of parquet files; several are domains of one catalogue. Or a file of events with ts."),
]
Items = Annotated[
    Path | None, typer.Option(help="The catalogue of a file of events: parquet, CSV or JSONL with item_id, title.")
]
ProtocolOption = Annotated[Protocol, typer.Option(help="How the data is cut.")]
Kind = Annotated[
    DataKind | None, typer.Option(help="What order means in the data; else as is usual with the protocol.")
]
Share = Annotated[
    float, typer.Option(min=0.05, max=0.99, help="Of a file of events, the share that comes before the test.")
]


Strategies = Annotated[
    str | None, typer.Option(help="Names of sharing strategies, with commas; `none` trains on the log alone.")
]


SearchSeconds = Annotated[
    float,
    typer.Option(min=0.0, help="CPU seconds to look for the strategies, weights and training that suit the data."),
]


class Adapter(StrEnum):
    """How the text transformer is adapted to the events' items."""

    NONE = "none"
    LORA = "lora"
    ADALORA = "adalora"


TextModel = Annotated[
    str | None, typer.Option(help="The text transformer: a folder, or the id of a Hugging Face model in the cache.")
]
TextAdapter = Annotated[Adapter, typer.Option(help="Adapt the text transformer to items that follow each other.")]


def config_of(
    kind: DataKind,
    seed: int,
    threads: int,
    strategies: str | None = None,
    search_seconds: float = 0.0,
    text_model: str | None = None,
    text_adapter: Adapter = Adapter.NONE,
) -> ReleaseCandidateConfig:
    """The kind's recipe, with other strategies if they are named. Raises `UsageError`."""
    from models.networks.text_transformer import TextConfig
    from models.pipeline.config import SearchConfig
    from models.pipeline.presets import STRATEGIES, preset

    config = preset(kind.value, seed, threads)
    config = replace(config, text=TextConfig(model=text_model, adapter=text_adapter.value))
    if search_seconds:
        config = replace(config, search=SearchConfig(cpu_seconds=search_seconds))
    if strategies is None:
        return config
    names = [] if strategies == "none" else [name.strip() for name in strategies.split(",")]
    unknown = [name for name in names if name not in STRATEGIES]
    if unknown:
        raise UsageError(f"--strategies knows no {', '.join(unknown)}; it knows {', '.join(STRATEGIES)}, or `none`")
    return replace(config, strategies=tuple(STRATEGIES[name]() for name in names))


def read_log(data: list[Path], items: Path | None) -> tuple[EventLog, list[Item]]:
    """A file of events in order of time, and its catalogue. Raises `UsageError`, `InvalidRow`."""
    from anabranch.messages import Item
    from models.data.event_log import EventLog
    from producers.catalogue import read_items
    from producers.replay import read_events

    if len(data) != 1 or not data[0].is_file():
        raise UsageError("this protocol reads one file of events: give it as --data, and its catalogue as --items")
    if items is None:
        raise UsageError("a file of events needs its catalogue: give it as --items")
    catalogue = [item for item in read_items(items) if isinstance(item, Item)]
    log = EventLog.from_events(read_events(data[0], sort=True), [item.item_id for item in catalogue])
    return log, catalogue


def benchmark_of(
    protocol: Protocol, data: list[Path], items: Path | None, share: float, config: ReleaseCandidateConfig
) -> Benchmark:
    """One test after one stretch of learning. Raises `UsageError`, `DataError`, `InvalidRow`."""
    from models.experiments import benchmark

    if protocol is Protocol.LEAVE_ONE_OUT:
        return benchmark.leave_one_out_benchmark(data, config)
    if protocol is Protocol.SESSIONS:
        if len(data) != 1:
            raise UsageError("sessions of several folders have no common order of time: give one --data")
        return benchmark.session_benchmark(data[0], config)
    log, catalogue = read_log(data, items)
    return benchmark.time_split_benchmark(data[0].stem, log, catalogue, share, config)
