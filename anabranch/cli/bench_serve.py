"""`anabranch bench serve`."""

from __future__ import annotations

from typing import Annotated

import typer

from anabranch.cli import bench_options as option
from anabranch.cli.bench_measurement import measure


def command(
    ctx: typer.Context,
    repeats: option.Repeats = 5,
    seconds: option.LatencySeconds = 10.0,
    connections: Annotated[int, typer.Option(min=1, help="Connections at full load.")] = 32,
    rate: Annotated[float, typer.Option(min=1, help="Requests per second while latency is measured.")] = 200.0,
    event_rate: Annotated[float, typer.Option(min=1, help="Events per second meanwhile.")] = 500.0,
    items: option.Items = option.CATALOGUE_SIZE,
    households: option.Households = 2000,
    random_seed: option.RandomSeed = 0,
    releases: option.Releases = None,
    json: option.Json = None,
    data_dir: option.DataDir = option.BENCH_DIR,
) -> None:
    """Measure the serving API: requests per second, and latency at a steady rate, beside a ranker.

    Example: anabranch bench serve --json serve.json
    """
    from anabranch.harness.bench.fixture import FixtureOptions
    from anabranch.harness.bench.serve import ServeConfig, run

    config = ServeConfig(repeats, seconds, connections, rate, event_rate)
    options = FixtureOptions(households, random_seed, releases, items)
    measure(ctx, data_dir, options, json, lambda fixture: run(fixture, config))
