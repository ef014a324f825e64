"""`anabranch replay`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from anabranch.cli.options import settings_of


def command(
    ctx: typer.Context,
    file: Annotated[Path, typer.Argument(help="A .parquet, .csv or .jsonl file with columns user_id, item_id and ts.")],
    speed: Annotated[
        str | None, typer.Option(help="1000x: a multiple of data time. 500/s: events per second. Default: full speed.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=0, help="Largest number of events to publish.")] = None,
    type: Annotated[str, typer.Option(help="Type of events that have none.")] = "purchase",
    sort: Annotated[bool, typer.Option("--sort", help="Sort the events by time first, in memory.")] = False,
) -> None:
    """Publish recorded events in order of time. Optional columns: type, session_id, event_id, query, domain.

    Example: anabranch replay purchases.parquet --speed 1000x --limit 10000
    """
    from contextlib import closing

    from anabranch.input_files.events import read_events
    from anabranch.kafka import clients
    from anabranch.kafka.topics import Topics
    from anabranch.progress_bar import bar
    from producers.pace import Pace
    from producers.replay import replay

    settings, pace = settings_of(ctx), Pace.parse(speed)
    clients.require_topics(settings)
    with closing(clients.producer(settings)) as producer, bar(f"Replay {file.name}", limit) as advance:
        replay(read_events(file, type, sort, limit), producer, Topics(settings).events, pace, advance)
