"""Options that several benchmarks take, and what they default to."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Releases = Annotated[
    Path | None, typer.Option(help="A folder with a release to serve. Default: train one.", file_okay=False)
]
Json = Annotated[Path | None, typer.Option(help="Write the figures to this file.")]
DataDir = Annotated[Path, typer.Option(help="Folder for the broker, releases and logs.")]
Households = Annotated[int, typer.Option(min=1, help="Households whose purchases are streamed.")]
RandomSeed = Annotated[int, typer.Option(help="Seed of the choice of households and of training.")]
Repeats = Annotated[int, typer.Option(min=1, help="How often each thing is measured, in turn.")]
Backlog = Annotated[int, typer.Option(min=100, help="Events of the backlog that is ranked at full load.")]
Batch = Annotated[int, typer.Option(min=1, help="The ranker's batch_max.")]
Rankers = Annotated[int, typer.Option(min=1, help="Ranker processes that share the events.")]
Shards = Annotated[
    int, typer.Option(min=2, max=256, help="Shards of the items: the job of one is compared with that of all items.")
]
NoopBatches = Annotated[
    list[int] | None,
    typer.Option("--noop-batch", min=1, help="batch_max of the no-op baseline; may be repeated, the fastest counts."),
]
Items = Annotated[int, typer.Option(min=1, help="Smallest number of items in the catalogue.")]
Rate = Annotated[float, typer.Option(min=1, help="Events per second.")]
LatencySeconds = Annotated[float, typer.Option(min=1, help="How long latency is measured.")]
CalmSeconds = Annotated[float, typer.Option(min=0.5, help="Seconds of stream before and after each change.")]
BENCH_DIR = Path(".anabranch/bench")
CATALOGUE_SIZE = 68_492
"""Items of the demo."""
NOOP_BATCHES = (512, 2048)
USER_COUNTS = (10_000, 100_000, 1_000_000)
ITEM_COUNTS = (10_000, CATALOGUE_SIZE, 1_000_000)
