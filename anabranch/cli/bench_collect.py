"""`anabranch bench collect`."""

from __future__ import annotations

from typing import Annotated

import typer

from anabranch.cli import bench_options as option
from anabranch.cli.bench_measurement import bench_settings
from anabranch.cli.output import show_json


def command(
    ctx: typer.Context,
    repeats: option.Repeats = 5,
    seconds: Annotated[float, typer.Option(min=1, help="How long each repeat sends, after a first second.")] = 10.0,
    connections: Annotated[int, typer.Option(min=1, help="Clients that send at the same time.")] = 16,
    batch: Annotated[int, typer.Option(min=1, max=1_000, help="Events of a request.")] = 50,
    json: option.Json = None,
    data_dir: option.DataDir = option.BENCH_DIR,
) -> None:
    """Measure the collector: events per second that the broker has acknowledged, their CPU time, and latency.

    Example: anabranch bench collect --json collect.json
    """
    from anabranch.harness.bench.collect import CollectConfig, run

    show_json(run(bench_settings(ctx, data_dir), CollectConfig(repeats, seconds, connections, batch)), json)
