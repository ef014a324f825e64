"""`anabranch demo`: the whole loop on real purchases."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

FULL_YEAR_WEEKS = 53


def command(
    ctx: typer.Context,
    full: Annotated[bool, typer.Option("--full", help="Replay the year, not two weeks.")] = False,
    random_seed: Annotated[int, typer.Option(help="Seed of the order within baskets and of training.")] = 0,
    exclude_seen: Annotated[
        bool, typer.Option("--exclude-seen", help="Never rank items the user has already bought.")
    ] = False,
    bootstrap_servers: Annotated[
        str | None,
        typer.Option(
            envvar="ANABRANCH_BOOTSTRAP_SERVERS",
            help="Use this broker, with new topics for this run. Default: start one.",
        ),
    ] = None,
    speed: Annotated[str | None, typer.Option(help="Replay at a multiple of data time, such as 1000x.")] = None,
    households: Annotated[
        int | None, typer.Option(min=1, help="Only this many households, drawn with the random seed.")
    ] = None,
    history_weeks: Annotated[int, typer.Option(min=4, help="Weeks that the first release learns from.")] = 10,
    replay_weeks: Annotated[int, typer.Option(min=1, help="Weeks to replay after them.")] = 2,
    reshare_every: Annotated[int, typer.Option(min=1, help="Weeks of data between two re-shares.")] = 1,
    data_dir: Annotated[Path, typer.Option(help="Folder for the broker, releases, logs and summary.")] = Path(
        ".anabranch/demo"
    ),
) -> None:
    """Run the whole loop: purchases in, rankings out, feedback re-shared, an accepted release swapped in.

    Example: anabranch demo --random-seed 7
    """
    import time

    from rich.console import Console

    from anabranch.cli.options import settings_of
    from anabranch.harness.demo.report import show
    from anabranch.harness.demo.run import DemoOptions, run
    from anabranch.harness.demo.schedule import make_schedule
    from anabranch.harness.environment.command import prepare_command, write_json
    from producers.pace import Pace

    if full:
        replay_weeks, reshare_every = FULL_YEAR_WEEKS - history_weeks, 6
    folder = data_dir.resolve()
    settings = settings_of(
        ctx,
        data_dir=str(folder),
        releases_dir=str(folder / "releases"),
        topic_prefix=f"demo-{time.time_ns() // 1_000_000}-" if bootstrap_servers else None,
        bootstrap_servers=bootstrap_servers,
        exclude_seen=exclude_seen or None,
    )
    schedule = make_schedule(history_weeks, replay_weeks, reshare_every, households)
    options = DemoOptions(schedule, random_seed, Pace.parse(speed), bootstrap_servers)
    prepare_command()
    console = Console()
    summary = run(options, settings, console)
    target = data_dir / "summary.json"
    write_json(target, summary.as_json())
    show(summary, console)
    console.print(f"{target} holds these figures and more.")
    raise typer.Exit(0 if summary.reconciliation.balanced else 1)
