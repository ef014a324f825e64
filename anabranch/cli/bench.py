"""`anabranch bench`: benchmarks of the ranker, each with its baseline from the same run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from anabranch.cli import bench_collect, bench_gate, bench_placements, bench_serve
from anabranch.cli import bench_options as option
from anabranch.cli.bench_measurement import bench_settings, measure
from anabranch.cli.output import show_json

app = typer.Typer()
app.command("collect")(bench_collect.command)
app.command("gate")(bench_gate.command)
app.command("placements")(bench_placements.command)
app.command("serve")(bench_serve.command)


@app.command("exactly-once")
def exactly_once(
    ctx: typer.Context,
    repeats: option.Repeats = 5,
    events: option.Backlog = 10_000,
    rate: Annotated[float, typer.Option(min=1, help="Events per second while latency is measured.")] = 300.0,
    seconds: option.LatencySeconds = 10.0,
    households: option.Households = 300,
    random_seed: option.RandomSeed = 0,
    releases: option.Releases = None,
    json: option.Json = None,
    data_dir: option.DataDir = option.BENCH_DIR,
) -> None:
    """Measure the cost of transactions: events per second and latency, exactly-once and at-least-once in turn.

    Example: anabranch bench exactly-once --json exactly-once.json
    """
    from anabranch.harness.bench.exactly_once import ExactlyOnceConfig, run
    from anabranch.harness.bench.fixture import FixtureOptions

    config = ExactlyOnceConfig(repeats, events, rate, seconds)
    options = FixtureOptions(households, random_seed, releases)
    measure(ctx, data_dir, options, json, lambda fixture: run(fixture, config))


@app.command()
def users(
    ctx: typer.Context,
    user_counts: Annotated[
        list[int] | None, typer.Option("--users", min=1, help="Number of users; may be repeated.")
    ] = None,
    repeats: Annotated[int, typer.Option(min=1, help="Restarts and backlogs for each number of users.")] = 5,
    events_per_user: Annotated[int, typer.Option(min=1, help="Mean number of events in a user's state.")] = 20,
    events: option.Backlog = 20_000,
    batch: option.Batch = 2048,
    rate: Annotated[float, typer.Option(min=1, help="Events per second while latency is measured.")] = 1000.0,
    seconds: option.LatencySeconds = 10.0,
    households: Annotated[int, typer.Option(min=1, help="Households whose items the synthetic users buy.")] = 300,
    random_seed: option.RandomSeed = 0,
    releases: option.Releases = None,
    json: option.Json = None,
    data_dir: option.DataDir = option.BENCH_DIR,
) -> None:
    """Measure time and memory to restore synthetic users, then the ranker's speed and latency for them.

    Example: anabranch bench users --users 100000 --users 1000000 --json users.json
    """
    from anabranch.harness.bench.fixture import FixtureOptions
    from anabranch.harness.bench.users import UsersConfig, run

    counts = tuple(user_counts or option.USER_COUNTS)
    config = UsersConfig(counts, repeats, events_per_user, events, batch, rate, seconds)
    options = FixtureOptions(households, random_seed, releases)
    measure(ctx, data_dir, options, json, lambda fixture: run(fixture, config))


@app.command()
def rebalance(
    ctx: typer.Context,
    repeats: Annotated[int, typer.Option(min=1, help="How often each kind of change is measured.")] = 5,
    rate: option.Rate = 200.0,
    calm_seconds: option.CalmSeconds = 4.0,
    households: option.Households = 300,
    random_seed: option.RandomSeed = 0,
    releases: option.Releases = None,
    json: option.Json = None,
    data_dir: option.DataDir = option.BENCH_DIR,
) -> None:
    """Measure how long partitions pause when a ranker joins, leaves or is killed: those that move, those that stay.

    Example: anabranch bench rebalance --json rebalance.json
    """
    from anabranch.harness.bench.fixture import FixtureOptions
    from anabranch.harness.bench.rebalance import RebalanceConfig, run

    config = RebalanceConfig(repeats, rate, calm_seconds)
    options = FixtureOptions(households, random_seed, releases)
    measure(ctx, data_dir, options, json, lambda fixture: run(fixture, config))


@app.command()
def throughput(
    ctx: typer.Context,
    repeats: option.Repeats = 5,
    events: option.Backlog = 30_000,
    batch: option.Batch = 2048,
    rankers: option.Rankers = 1,
    noop_batches: option.NoopBatches = None,
    items: option.Items = option.CATALOGUE_SIZE,
    households: option.Households = 2000,
    random_seed: option.RandomSeed = 0,
    releases: option.Releases = None,
    json: option.Json = None,
    data_dir: option.DataDir = option.BENCH_DIR,
) -> None:
    """Measure events per second of rankers, and of the no-op baseline: the same messages without any work.

    Example: anabranch bench throughput --json throughput.json
    """
    from anabranch.harness.bench.fixture import FixtureOptions
    from anabranch.harness.bench.throughput import ThroughputConfig, run

    config = ThroughputConfig(repeats, events, batch, rankers, tuple(noop_batches or option.NOOP_BATCHES))
    options = FixtureOptions(households, random_seed, releases, items)
    measure(ctx, data_dir, options, json, lambda fixture: run(fixture, config))


@app.command()
def latency(
    ctx: typer.Context,
    repeats: option.Repeats = 5,
    seconds: option.LatencySeconds = 10.0,
    rate: Annotated[
        float | None, typer.Option(min=1, help="Events per second. Default: half of the rate at full load.")
    ] = None,
    events: option.Backlog = 30_000,
    batch: option.Batch = 2048,
    rankers: option.Rankers = 1,
    items: option.Items = option.CATALOGUE_SIZE,
    households: option.Households = 2000,
    random_seed: option.RandomSeed = 0,
    releases: option.Releases = None,
    json: option.Json = None,
    data_dir: option.DataDir = option.BENCH_DIR,
) -> None:
    """Measure latency at a steady rate, and that of the no-op baseline. Events are published at fixed times.

    Example: anabranch bench latency --json latency.json
    """
    from anabranch.harness.bench.fixture import FixtureOptions
    from anabranch.harness.bench.latency import LatencyConfig, run

    config = LatencyConfig(repeats, seconds, batch, rate, events, rankers)
    options = FixtureOptions(households, random_seed, releases, items)
    measure(ctx, data_dir, options, json, lambda fixture: run(fixture, config))


@app.command()
def items(
    ctx: typer.Context,
    sizes: Annotated[
        list[int] | None, typer.Option("--size", min=1000, help="Items of the catalogue; may be repeated.")
    ] = None,
    repeats: option.Repeats = 5,
    events: option.Backlog = 20_000,
    rate: Annotated[float, typer.Option(min=1, help="Events per second while items change.")] = 1000.0,
    batch: option.Batch = 2048,
    calm_seconds: option.CalmSeconds = 5.0,
    rebuild_seconds: Annotated[
        float, typer.Option(min=0.5, help="Seconds measured without changes, and during an index rebuild.")
    ] = 20.0,
    households: option.Households = 2000,
    random_seed: option.RandomSeed = 0,
    releases: option.Releases = None,
    json: option.Json = None,
    data_dir: option.DataDir = option.BENCH_DIR,
) -> None:
    """Measure a ranker by catalogue size: speed, recall, delay of changes, and latency during an index rebuild.

    Synthetic items, near the real ones, fill up the catalogue. For a small catalogue fewer households are used.

    Example: anabranch bench items --size 10000 --size 1000000 --json items.json
    """
    from anabranch.harness.bench.fixture import FixtureOptions
    from anabranch.harness.bench.items import ItemsConfig, measure_sizes

    config = ItemsConfig(repeats, events, batch, rate, calm_seconds, rebuild_seconds)
    options = FixtureOptions(households, random_seed, releases, option.CATALOGUE_SIZE)
    show_json(measure_sizes(bench_settings(ctx, data_dir), options, sizes or option.ITEM_COUNTS, config), json)


@app.command()
def neighbours(
    ctx: typer.Context,
    repeats: option.Repeats = 5,
    events: option.Backlog = 30_000,
    rate: option.Rate = 300.0,
    pairs: Annotated[int, typer.Option(min=1, help="New pairs of items, one a second.")] = 30,
    shards: option.Shards = 2,
    households: option.Households = 2000,
    random_seed: option.RandomSeed = 0,
    releases: option.Releases = None,
    json: option.Json = None,
    data_dir: option.DataDir = option.BENCH_DIR,
) -> None:
    """Measure events per second of the neighbours job, for all items and for one shard, and how soon a pair has a row.

    Example: anabranch bench neighbours --json neighbours.json
    """
    from anabranch.harness.bench.fixture import FixtureOptions
    from anabranch.harness.bench.neighbours import NeighboursConfig, run

    config = NeighboursConfig(repeats, events, rate, pairs, shards)
    options = FixtureOptions(households, random_seed, releases)
    measure(ctx, data_dir, options, json, lambda fixture: run(fixture, config))


@app.command()
def swap(
    ctx: typer.Context,
    repeats: option.Repeats = 5,
    rate: option.Rate = 1000.0,
    calm_seconds: option.CalmSeconds = 4.0,
    items: option.Items = option.CATALOGUE_SIZE,
    households: option.Households = 2000,
    random_seed: option.RandomSeed = 0,
    releases: option.Releases = None,
    json: option.Json = None,
    data_dir: option.DataDir = option.BENCH_DIR,
) -> None:
    """Measure how long rankings pause when a release is swapped under load, and whether a partition mixes two.

    Example: anabranch bench swap --json swap.json
    """
    from anabranch.harness.bench.fixture import FixtureOptions
    from anabranch.harness.bench.swap import SwapConfig, run

    config = SwapConfig(repeats, rate, calm_seconds)
    options = FixtureOptions(households, random_seed, releases, items)
    measure(ctx, data_dir, options, json, lambda fixture: run(fixture, config))


@app.command()
def idle(
    ctx: typer.Context,
    repeats: option.Repeats = 5,
    seconds: Annotated[
        float, typer.Option(min=1, max=40, help="How long CPU time is measured before each event.")
    ] = 20.0,
    items: option.Items = option.CATALOGUE_SIZE,
    households: option.Households = 300,
    random_seed: option.RandomSeed = 0,
    releases: option.Releases = None,
    json: option.Json = None,
    data_dir: option.DataDir = option.BENCH_DIR,
) -> None:
    """Measure the CPU time of ranker and indexer without events, then how soon the next event is ranked.

    Example: anabranch bench idle --json idle.json
    """
    from anabranch.harness.bench.fixture import FixtureOptions
    from anabranch.harness.bench.idle import IdleConfig, run

    config = IdleConfig(repeats, seconds)
    options = FixtureOptions(households, random_seed, releases, items)
    measure(ctx, data_dir, options, json, lambda fixture: run(fixture, config))


@app.command("noop-baseline")
def noop_baseline(
    ctx: typer.Context,
    repeats: option.Repeats = 5,
    events: option.Backlog = 30_000,
    noop_batches: option.NoopBatches = None,
    households: option.Households = 300,
    random_seed: option.RandomSeed = 0,
    releases: option.Releases = None,
    json: option.Json = None,
    data_dir: option.DataDir = option.BENCH_DIR,
) -> None:
    """Measure the no-op baseline alone: a ranker's transactions with a ranker's messages, by batch size.

    Example: anabranch bench noop-baseline --noop-batch 512 --noop-batch 4096 --json noop.json
    """
    from anabranch.harness.bench.fixture import FixtureOptions
    from anabranch.harness.bench.noop_baseline import NoopBaselineConfig, run

    config = NoopBaselineConfig(repeats, events, tuple(noop_batches or option.NOOP_BATCHES))
    options = FixtureOptions(households, random_seed, releases)
    measure(ctx, data_dir, options, json, lambda fixture: run(fixture, config))


@app.command("all")
def run_all(
    repeats: option.Repeats = 5,
    small: Annotated[
        bool, typer.Option("--small", help="Run each with little data: a check that it works, no measurement.")
    ] = False,
    only: Annotated[list[str] | None, typer.Option(help="Run this benchmark alone; may be repeated.")] = None,
    releases: option.Releases = None,
    json: option.Json = None,
    data_dir: option.DataDir = option.BENCH_DIR,
) -> None:
    """Run every benchmark of the ranker and print one table. A benchmark whose figures are there is not run again.

    The figures are in the data folder's `figures`, one file each; remove one to repeat its benchmark.

    Example: anabranch bench all --json bench.json
    """
    from anabranch.console import output_console
    from anabranch.harness.bench.figures.table import BenchAllConfig, measure, show
    from anabranch.indented_json import write_json

    figures = measure(BenchAllConfig(data_dir.resolve(), releases, repeats, small, only or ()))
    show(figures, output_console())
    if json is not None:
        write_json(json, figures)


@app.command()
def plot(
    figures: Annotated[
        Path, typer.Option(help="The folder where `bench all` keeps its figures.", file_okay=False)
    ] = option.BENCH_DIR / "figures",
    out: Annotated[Path, typer.Option(help="Folder for the plots.", file_okay=False)] = Path("docs/growth"),
) -> None:
    """Draw events per second and latency by items, users, partitions and rankers, from the figures of `bench all`.

    Example: anabranch bench plot --out docs/growth
    """
    from anabranch.harness.bench.figures.plots import draw

    for path in draw(figures, out):
        typer.echo(path)


@app.command("noop-loop", hidden=True)
def noop_loop(ctx: typer.Context, file: Annotated[Path, typer.Option(help="The work, as a file.")]) -> None:
    """The process of the no-op baseline, which the benchmarks start."""
    from anabranch.cli.options import settings_of
    from anabranch.harness.bench.noop_loop import NoopWork, run_noop_loop

    run_noop_loop(settings_of(ctx), NoopWork.read(file))
