"""`anabranch replay`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from anabranch.cli import file_options
from anabranch.cli.options import settings_of


def command(
    ctx: typer.Context,
    file: Annotated[Path, typer.Argument(help="A file of events, or a folder of its parts: CSV, JSON or parquet.")],
    columns: file_options.Columns = None,
    types: file_options.Types = None,
    type: file_options.DefaultType = "purchase",
    encoding: file_options.Encoding = None,
    skip_faulty: file_options.SkipFaulty = False,
    sort: Annotated[bool, typer.Option("--sort", help="Sort the events by time first, in memory.")] = False,
    speed: Annotated[
        str | None, typer.Option(help="1000x: a multiple of data time. 500/s: events per second. Default: full speed.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=0, help="Largest number of events to publish now.")] = None,
    again: Annotated[
        bool,
        typer.Option("--again", help="Publish a file again that has been published, as new events with other ids."),
    ] = False,
) -> None:
    """Publish recorded events in order of time, each once: after an interruption, the same command publishes the rest.

    The file needs users, items or queries, and times; types, sessions and event ids are optional. Everything is read
    first, and if a row cannot be read, nothing is published. `anabranch check` reads without publishing.

    Example: anabranch replay purchases.parquet --speed 1000x --limit 10000
    """
    from anabranch.input_files.check import EventCheck, without_faults
    from anabranch.input_files.events import EventFile, EventOptions, Order
    from anabranch.kafka import clients
    from anabranch.own_event_types import OwnEventTypes
    from anabranch.progress_bar import bar
    from producers.file_replay import RecordedEvents, replay_file
    from producers.pace import Pace

    settings, pace = settings_of(ctx), Pace.parse(speed)
    own_types = OwnEventTypes(settings.event_types)
    events = EventFile.open(file, EventOptions.parse(columns, types, type, encoding, own_types=own_types))
    order: Order = "sorted" if sort else "required"
    skipped = file_options.skipped_path(settings, file, "events", skip_faulty)
    check = EventCheck.of(events.read(order))
    file_options.say(file, [*events.notes(), *check.lines()], check.faults, skipped)
    clients.require_topics(settings)
    total = check.events if limit is None else min(limit, check.events)
    with bar(f"Replay {file.name}", total) as advance:
        recorded = RecordedEvents(check.file_id, check.events, without_faults(events.read(order), skipped))
        result = replay_file(settings, recorded, pace, limit, advance, again)
    before = f"; {result.published_before:,} had been published before" if result.published_before else ""
    hint = " (--again publishes them as new events)" if result.published_before == check.events else ""
    typer.echo(f"{result.published:,} of {check.events:,} events published{before}{hint}")
