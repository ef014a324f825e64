"""`anabranch demo`: the whole loop on real purchases."""

from __future__ import annotations

import signal
import time
from pathlib import Path
from typing import Annotated

import typer

FULL_YEAR = 53


def command(
    ctx: typer.Context,
    full: Annotated[bool, typer.Option("--full", help="Stream the year, not about five minutes' worth.")] = False,
    seed: Annotated[int, typer.Option(help="Shuffles baskets and seeds training.")] = 0,
    discover: Annotated[bool, typer.Option("--discover", help="Leave out what a user has already bought.")] = False,
    kafka: Annotated[
        bool, typer.Option("--kafka", help="Start Apache Kafka (needs Java and Maven), not the embedded broker.")
    ] = False,
    bootstrap_servers: Annotated[
        str | None,
        typer.Option(envvar="ANABRANCH_BOOTSTRAP_SERVERS", help="Use this broker, with topics of the demo's own."),
    ] = None,
    speed: Annotated[str | None, typer.Option(help="Replay at a multiple of data time, such as 1000x.")] = None,
    households: Annotated[int | None, typer.Option(min=1, help="Only this many households, drawn by seed.")] = None,
    history_weeks: Annotated[int, typer.Option(min=4, help="Weeks the first release learns from.")] = 10,
    replay_weeks: Annotated[int, typer.Option(min=1, help="Weeks to replay after them.")] = 2,
    reshare_every: Annotated[int, typer.Option(min=1, help="Weeks of data between two re-shares.")] = 1,
    data_dir: Annotated[Path, typer.Option(help="Where broker, releases, logs and summary go.")] = Path(
        ".anabranch/demo"
    ),
) -> None:
    """Run the whole loop: real purchases in, rankings out, feedback re-shared, a better encoder swapped in.

    Example: anabranch demo --seed 7
    """
    import logging

    import msgspec
    from rich.console import Console

    from anabranch.cli.options import settings_of
    from anabranch.harness.demo.plan import make_plan
    from anabranch.harness.demo.report import show
    from anabranch.harness.demo.run import Options, run
    from producers.pace import Pace

    if full:
        replay_weeks, reshare_every = FULL_YEAR - history_weeks, 6
    folder = data_dir.resolve()
    settings = settings_of(
        ctx,
        data_dir=str(folder),
        releases_dir=str(folder / "releases"),
        topic_prefix=f"demo-{time.time_ns() // 1_000_000}-" if bootstrap_servers else None,
        bootstrap_servers=bootstrap_servers,
        discover=discover or None,
    )
    options = Options(
        plan=make_plan(history_weeks, replay_weeks, reshare_every, households),
        seed=seed,
        kafka=kafka,
        pace=Pace.parse(speed),
        bootstrap_servers=bootstrap_servers,
    )
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # stop broker and processes, as on Ctrl-C
    logging.getLogger("kafka").setLevel(logging.CRITICAL)  # it logs every socket that its peer closes first
    console = Console()
    summary = run(options, settings, console)
    target = data_dir / "summary.json"
    target.write_bytes(msgspec.json.format(msgspec.json.encode(summary.as_json()), indent=2))
    show(summary, console)
    console.print(f"The same, and more, in {target}.")
    raise typer.Exit(0 if summary.ledger.balanced else 1)
