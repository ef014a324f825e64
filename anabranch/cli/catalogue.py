"""`anabranch catalogue`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from anabranch.cli import file_options
from anabranch.cli.options import settings_of


def command(
    ctx: typer.Context,
    file: Annotated[Path, typer.Argument(help="A file of items, or a folder of its parts: CSV, JSON or parquet.")],
    columns: file_options.Columns = None,
    encoding: file_options.Encoding = None,
    skip_faulty: file_options.SkipFaulty = False,
    delete: Annotated[bool, typer.Option("--delete", help="Remove the file's items. Only their ids are read.")] = False,
) -> None:
    """Publish items, or remove them.

    The file needs ids and titles; description, brand, category, price, available, domain and deleted are optional.
    Everything is read first, and if a row cannot be read, nothing is published.

    Example: anabranch catalogue products.csv
    """
    from contextlib import closing

    from anabranch.input_files.check import ItemCheck, without_faults
    from anabranch.input_files.columns import ITEM_ALIASES, parse_columns
    from anabranch.input_files.items import ItemFile
    from anabranch.kafka import clients
    from anabranch.kafka.topics import Topics
    from anabranch.progress_bar import bar
    from producers.catalogue import publish

    settings = settings_of(ctx)
    items = ItemFile.open(file, parse_columns(columns, ITEM_ALIASES), encoding)
    skipped = file_options.skipped_path(settings, file, "items", skip_faulty)
    check = ItemCheck.of(items.read(delete))
    file_options.say(file, [*items.notes(), *check.lines()], check.faults, skipped)
    clients.require_topics(settings)
    with closing(clients.producer(settings)) as producer, bar(f"Catalogue {file.name}", len(check)) as advance:
        published = publish(without_faults(items.read(delete), skipped), producer, Topics(settings).items, advance)
    typer.echo(f"{published:,} items published")
