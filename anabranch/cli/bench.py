"""`anabranch bench`: figures anybody can have again, each beside its peer from the same run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from anabranch.harness.bench.fixture import Stand

app = typer.Typer()

Releases = Annotated[
    Path | None, typer.Option(help="A folder with a release to serve; without it one is made.", file_okay=False)
]
Json = Annotated[Path | None, typer.Option(help="Write the figures here.")]
DataDir = Annotated[Path, typer.Option(help="Where broker, releases and logs go.")]
Households = Annotated[int, typer.Option(min=1, help="Households whose purchases are streamed.")]
Seed = Annotated[int, typer.Option(help="Draws households and seeds training.")]
Repeats = Annotated[int, typer.Option(min=1, help="Times each thing is measured, in turn.")]
Backlog = Annotated[int, typer.Option(min=100, help="Backlog that is ranked, and echoed, at full speed.")]
Batch = Annotated[int, typer.Option(min=1, help="Events the ranker takes at once, at most.")]
Rankers = Annotated[int, typer.Option(min=1, help="Ranker processes that share the events.")]
EchoBatches = Annotated[
    list[int] | None,
    typer.Option("--echo-batch", min=1, help="As --batch, for the echo; may be given again."),
]
Items = Annotated[int, typer.Option(min=1, help="Items of the catalogue, at least.")]
BENCH_DIR = Path(".anabranch/bench")
CATALOGUE = 68_492
"""Items of the demo."""
ECHO_BATCHES = (512, 2048)
USERS = (10_000, 100_000, 1_000_000)
SIZES = (10_000, CATALOGUE, 1_000_000)


@app.command("exactly-once")
def exactly_once(
    ctx: typer.Context,
    repeats: Annotated[int, typer.Option(min=1, help="Times each guarantee is measured, in turn.")] = 5,
    events: Annotated[int, typer.Option(min=100, help="Backlog that is ranked at full speed.")] = 10_000,
    rate: Annotated[float, typer.Option(min=1, help="Events a second while latency is measured.")] = 300.0,
    seconds: Annotated[float, typer.Option(min=1, help="How long latency is measured.")] = 10.0,
    households: Households = 300,
    seed: Seed = 0,
    releases: Releases = None,
    json: Json = None,
    data_dir: DataDir = BENCH_DIR,
) -> None:
    """Measure what transactions cost: events a second and latency with them, and without.

    Example: anabranch bench exactly-once --json exactly-once.json
    """
    from anabranch.harness.bench.exactly_once import Plan, run

    _run(
        ctx, data_dir, releases, households, seed, json, lambda stand: run(stand, Plan(repeats, events, rate, seconds))
    )


@app.command()
def users(
    ctx: typer.Context,
    counts: Annotated[
        list[int] | None, typer.Option("--users", min=1, help="How many users; may be given again.")
    ] = None,
    repeats: Annotated[int, typer.Option(min=1, help="Restarts and backlogs measured for each.")] = 5,
    events_per_user: Annotated[int, typer.Option(min=1, help="That their states hold, on average.")] = 20,
    events: Backlog = 20_000,
    batch: Batch = 2048,
    rate: Annotated[float, typer.Option(min=1, help="Events a second while latency is measured.")] = 1000.0,
    seconds: Annotated[float, typer.Option(min=1, help="How long latency is measured.")] = 10.0,
    households: Annotated[int, typer.Option(min=1, help="Households whose items the synthetic users have.")] = 300,
    seed: Seed = 0,
    releases: Releases = None,
    json: Json = None,
    data_dir: DataDir = BENCH_DIR,
) -> None:
    """Measure how long a ranker takes to restore synthetic users, in how much memory, and how fast it ranks for them.

    Example: anabranch bench users --users 100000 --users 1000000 --json users.json
    """
    from anabranch.harness.bench.users import Plan, run

    plan = Plan(tuple(counts or USERS), repeats, events_per_user, events, batch, rate, seconds)
    _run(ctx, data_dir, releases, households, seed, json, lambda stand: run(stand, plan))


@app.command()
def rebalance(
    ctx: typer.Context,
    repeats: Annotated[int, typer.Option(min=1, help="Times each kind of change is measured.")] = 5,
    rate: Annotated[float, typer.Option(min=1, help="Events a second.")] = 200.0,
    households: Households = 300,
    seed: Seed = 0,
    releases: Releases = None,
    json: Json = None,
    data_dir: DataDir = BENCH_DIR,
) -> None:
    """Measure how long partitions stand still when a ranker joins, leaves, or is killed: if they move, if they stay.

    Example: anabranch bench rebalance --json rebalance.json
    """
    from anabranch.harness.bench.rebalance import Plan, run

    _run(ctx, data_dir, releases, households, seed, json, lambda stand: run(stand, Plan(repeats, rate)))


@app.command()
def throughput(
    ctx: typer.Context,
    repeats: Repeats = 5,
    events: Backlog = 30_000,
    batch: Batch = 2048,
    rankers: Rankers = 1,
    echo_batches: EchoBatches = None,
    items: Items = CATALOGUE,
    households: Households = 2000,
    seed: Seed = 0,
    releases: Releases = None,
    json: Json = None,
    data_dir: DataDir = BENCH_DIR,
) -> None:
    """Measure how many events a second rankers rank, beside the echo: the same messages, and no work between.

    Example: anabranch bench throughput --json throughput.json
    """
    from anabranch.harness.bench.throughput import Plan, run

    plan = Plan(repeats, events, batch, rankers, tuple(echo_batches or ECHO_BATCHES))
    _run(ctx, data_dir, releases, households, seed, json, lambda stand: run(stand, plan), items)


@app.command()
def latency(
    ctx: typer.Context,
    repeats: Repeats = 5,
    seconds: Annotated[float, typer.Option(min=1, help="How long events come, each time.")] = 10.0,
    rate: Annotated[
        float | None, typer.Option(min=1, help="Events a second; without it, half of what is ranked at full speed.")
    ] = None,
    events: Backlog = 30_000,
    batch: Batch = 2048,
    rankers: Rankers = 1,
    items: Items = CATALOGUE,
    households: Households = 2000,
    seed: Seed = 0,
    releases: Releases = None,
    json: Json = None,
    data_dir: DataDir = BENCH_DIR,
) -> None:
    """Measure how long a ranking takes at a steady rate, beside the echo at that rate. Events come when they are due.

    Example: anabranch bench latency --json latency.json
    """
    from anabranch.harness.bench.latency import Plan, run

    plan = Plan(repeats, seconds, batch, rate, events, rankers)
    _run(ctx, data_dir, releases, households, seed, json, lambda stand: run(stand, plan), items)


@app.command()
def items(
    ctx: typer.Context,
    sizes: Annotated[
        list[int] | None, typer.Option("--size", min=1000, help="Items of the catalogue; may be given again.")
    ] = None,
    repeats: Repeats = 5,
    events: Backlog = 20_000,
    rate: Annotated[float, typer.Option(min=1, help="Events a second while items change.")] = 1000.0,
    batch: Batch = 2048,
    households: Households = 2000,
    seed: Seed = 0,
    releases: Releases = None,
    json: Json = None,
    data_dir: DataDir = BENCH_DIR,
) -> None:
    """Measure a ranker on catalogues of some sizes: speed, recall, how soon a change is seen, and a rebuild beside.

    Items beyond the real ones are made up beside them. A catalogue too small for the households has fewer of these.

    Example: anabranch bench items --size 10000 --size 1000000 --json items.json
    """
    from anabranch.harness.bench.catalogue import households_within
    from anabranch.harness.bench.items import Plan, run
    from producers import completejourney

    plan = Plan(repeats, events, batch, rate)
    purchases = completejourney.purchases(seed)
    measured = []
    for size in sizes or SIZES:
        fitting = min(households, households_within(purchases, size, seed))
        with _stand(ctx, data_dir, releases, fitting, seed, min(size, CATALOGUE)) as stand:
            measured.append(run(stand, size, plan))
    _show({"what": "one ranker, by the size of its catalogue", "machine": stand.machine, "sizes": measured}, json)


@app.command()
def swap(
    ctx: typer.Context,
    repeats: Repeats = 5,
    rate: Annotated[float, typer.Option(min=1, help="Events a second.")] = 1000.0,
    items: Items = CATALOGUE,
    households: Households = 2000,
    seed: Seed = 0,
    releases: Releases = None,
    json: Json = None,
    data_dir: DataDir = BENCH_DIR,
) -> None:
    """Measure how long rankings stand still when a release is swapped under load, and that none mixes two releases.

    Example: anabranch bench swap --json swap.json
    """
    from anabranch.harness.bench.swap import Plan, run

    plan = Plan(repeats, rate)
    _run(ctx, data_dir, releases, households, seed, json, lambda stand: run(stand, plan), items)


@app.command()
def echo(
    ctx: typer.Context,
    repeats: Repeats = 5,
    events: Backlog = 30_000,
    batches: EchoBatches = None,
    households: Households = 300,
    seed: Seed = 0,
    releases: Releases = None,
    json: Json = None,
    data_dir: DataDir = BENCH_DIR,
) -> None:
    """Measure the echo alone: a ranker's transactions with a ranker's messages, by the size of its batches.

    Example: anabranch bench echo --echo-batch 512 --echo-batch 4096 --json echo.json
    """
    from anabranch.harness.bench.noop_baseline import Plan, run

    plan = Plan(repeats, events, tuple(batches or ECHO_BATCHES))
    _run(ctx, data_dir, releases, households, seed, json, lambda stand: run(stand, plan))


@app.command("all")
def everything(
    repeats: Repeats = 5,
    releases: Releases = None,
    json: Json = None,
    data_dir: DataDir = BENCH_DIR,
) -> None:
    """Run every benchmark of the ranker and print its table. What has been run is not run again while its file stands.

    Each keeps its figures in the data folder's `figures`; remove one to repeat it.

    Example: anabranch bench all --json bench.json
    """
    import msgspec
    from rich.console import Console

    from anabranch.harness.bench.table import measure, show

    found = measure(data_dir.resolve(), releases, repeats)
    show(found, Console())
    if json is not None:
        json.write_bytes(msgspec.json.format(msgspec.json.encode(found), indent=2))


@app.command()
def plot(
    figures: Annotated[Path, typer.Option(help="Where `bench all` keeps its figures.", file_okay=False)] = BENCH_DIR
    / "figures",
    out: Annotated[Path, typer.Option(help="Where the plots go.", file_okay=False)] = Path("docs/growth"),
) -> None:
    """Draw how events a second and latency grow with items, users, partitions and rankers, from kept figures.

    Example: anabranch bench plot --out docs/growth
    """
    from anabranch.harness.bench.plots import draw

    for path in draw(figures, out):
        typer.echo(path)


@app.command("echo-loop", hidden=True)
def echo_loop(ctx: typer.Context, file: Annotated[Path, typer.Option(help="What to echo.")]) -> None:
    """The echo's process: other benchmarks start it."""
    from anabranch.cli.options import settings_of
    from anabranch.harness.bench.noop_loop import Echoed, echo

    echo(settings_of(ctx), Echoed.read(file))


def _run(
    ctx: typer.Context,
    data_dir: Path,
    releases: Path | None,
    households: int,
    seed: int,
    target: Path | None,
    measure: Callable[[Stand], dict[str, Any]],
    items: int = 0,
) -> None:
    with _stand(ctx, data_dir, releases, households, seed, items) as stand:
        _show(measure(stand), target)


@contextmanager
def _stand(
    ctx: typer.Context, data_dir: Path, releases: Path | None, households: int, seed: int, items: int
) -> Iterator[Stand]:
    import logging
    import signal

    from anabranch.cli.options import settings_of
    from anabranch.harness.bench.fixture import on_stand

    folder = data_dir.resolve()
    settings = settings_of(ctx, data_dir=str(folder), releases_dir=str(folder / "releases"))
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # stop broker and processes, as on Ctrl-C
    logging.getLogger("kafka").setLevel(logging.CRITICAL)
    with on_stand(settings, releases, households, seed, items) as stand:
        yield stand


def _show(figures: dict[str, Any], target: Path | None) -> None:
    import msgspec

    text = msgspec.json.format(msgspec.json.encode(figures), indent=2)
    typer.echo(text)
    if target is not None:
        target.write_bytes(text)
