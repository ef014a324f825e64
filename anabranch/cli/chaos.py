"""`anabranch chaos`: kill everything at random, then prove that nobody could tell."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Annotated

import typer


def command(
    ctx: typer.Context,
    minutes: Annotated[float, typer.Option(min=0.1, help="How long the stream flows.")] = 5.0,
    kills: Annotated[int, typer.Option(min=0, help="Processes to kill with -9: rankers and brokers.")] = 20,
    seed: Annotated[int, typer.Option(help="Draws the faults and what is odd in the stream.")] = 0,
    rankers: Annotated[int, typer.Option(min=1, help="Rankers in the group.")] = 3,
    brokers: Annotated[int, typer.Option(min=1, help="Nodes of the cluster: 1, or 3 and more.")] = 3,
    rate: Annotated[float, typer.Option(min=1, help="Events a second.")] = 100.0,
    households: Annotated[int, typer.Option(min=1, help="Households whose purchases are streamed.")] = 150,
    releases: Annotated[
        Path | None, typer.Option(help="A folder of two releases to serve; without it two are made.", file_okay=False)
    ] = None,
    json: Annotated[Path | None, typer.Option(help="Write what happened and what was found here.")] = None,
    data_dir: Annotated[Path, typer.Option(help="Where cluster, releases and logs go.")] = Path(".anabranch/chaos"),
) -> None:
    """Prove exactly once: rank real events on Apache Kafka while rankers and brokers are killed, then balance it all.

    Rankers are also paused for longer than the session's time-out, so that zombies wake up, and a release is swapped in
    the middle. Duplicates, late events and poison are part of the stream. Ends with exit code 1 unless every accepted
    event has exactly one ranking, in order, and every saved user vector is that of an uninterrupted run, bit by bit.

    Example: anabranch chaos --minutes 5 --kills 20 --seed 1 --json chaos.json
    """
    import logging

    import msgspec
    from rich.console import Console

    from anabranch.cli.options import settings_of
    from anabranch.harness.chaos.report import show
    from anabranch.harness.chaos.run import Options, run

    folder = data_dir.resolve()
    settings = settings_of(ctx, data_dir=str(folder), releases_dir=str(folder / "releases"))
    options = Options(minutes, kills, seed, rankers, brokers, rate, households, releases)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # stop cluster and processes, as on Ctrl-C
    logging.getLogger("kafka").setLevel(logging.CRITICAL)  # it logs every socket that its peer closes first
    console = Console()
    happened, findings = run(options, settings, console)
    show(happened, findings, console)
    adds_up = findings.adds_up and not happened.defects
    if json is not None:
        found = {"happened": happened, "found": findings, "adds_up": adds_up}
        json.write_bytes(msgspec.json.format(msgspec.json.encode(found), indent=2))
    raise typer.Exit(0 if adds_up else 1)
