"""`anabranch chaos`: kill rankers and brokers under load, then check the topics."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def command(
    ctx: typer.Context,
    minutes: Annotated[float, typer.Option(min=0.1, help="How long the event stream runs.")] = 5.0,
    kills: Annotated[int, typer.Option(min=0, help="How many rankers and brokers to kill with -9.")] = 20,
    random_seed: Annotated[int, typer.Option(help="Seed of the faults, of the event stream and of training.")] = 0,
    rankers: Annotated[int, typer.Option(min=1, help="Rankers in the group.")] = 3,
    brokers: Annotated[int, typer.Option(min=1, help="Nodes of the cluster: 1, or 3 and more.")] = 3,
    rate: Annotated[float, typer.Option(min=1, help="Purchases per second.")] = 100.0,
    households: Annotated[int, typer.Option(min=1, help="Households whose purchases are streamed.")] = 150,
    releases: Annotated[
        Path | None,
        typer.Option(help="A folder with two releases to serve. Default: train two.", file_okay=False),
    ] = None,
    json: Annotated[Path | None, typer.Option(help="Write the run and the findings to this file.")] = None,
    data_dir: Annotated[Path, typer.Option(help="Folder for the cluster, releases and logs.")] = Path(
        ".anabranch/chaos"
    ),
) -> None:
    """Test exactly-once: rank real purchases on Apache Kafka, kill rankers and brokers, then check every topic.

    Rankers are also paused for longer than the session timeout, so that they wake up fenced, and a new release goes
    live in the middle of the run. The stream contains duplicates, late events and invalid messages. At the end, events
    are deleted before they are ranked, and then their topic is deleted and created again. The exit code is 1 unless
    every other accepted event has exactly one ranking, in order, the deleted ones are counted, and every saved user
    state is, bit for bit, that of an uninterrupted run.

    Example: anabranch chaos --minutes 5 --kills 20 --random-seed 1 --json chaos.json
    """
    from anabranch.cli.options import settings_of
    from anabranch.console import output_console
    from anabranch.harness.chaos.report import show
    from anabranch.harness.chaos.run import ChaosOptions, run
    from anabranch.harness.environment.command import prepare_command
    from anabranch.indented_json import write_json

    folder = data_dir.resolve()
    settings = settings_of(ctx, data_dir=str(folder), releases_dir=str(folder / "releases"))
    options = ChaosOptions(minutes, kills, random_seed, rankers, brokers, rate, households, releases)
    prepare_command()
    console = output_console()
    result = run(options, settings, console)
    show(result, console)
    if json is not None:
        happened, found, losses = result
        write_json(json, {"happened": happened, "found": found, "log_losses": losses, "adds_up": result.adds_up})
    raise typer.Exit(0 if result.adds_up else 1)
