"""`anabranch bench placements`."""

from __future__ import annotations

import typer

from anabranch.cli import bench_options as option
from anabranch.cli.bench_measurement import measure


def command(
    ctx: typer.Context,
    repeats: option.Repeats = 5,
    events: option.Backlog = 10_000,
    batch: option.Batch = 2048,
    items: option.Items = option.CATALOGUE_SIZE,
    households: option.Households = 2000,
    random_seed: option.RandomSeed = 0,
    releases: option.Releases = None,
    json: option.Json = None,
    data_dir: option.DataDir = option.BENCH_DIR,
) -> None:
    """Measure what more placements, varied slates and explored places cost: events per second, by turns.

    Example: anabranch bench placements --json placements.json
    """
    from anabranch.harness.bench.fixture import FixtureOptions
    from anabranch.harness.bench.placements import PlacementsConfig, run

    config = PlacementsConfig(repeats, events, batch)
    options = FixtureOptions(households, random_seed, releases, items)
    measure(ctx, data_dir, options, json, lambda fixture: run(fixture, config))
