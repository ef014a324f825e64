"""`anabranch catalogue`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from anabranch.cli.options import settings_of


def command(
    ctx: typer.Context,
    file: Annotated[Path, typer.Argument(help="A .parquet, .csv or .jsonl file with item_id and title.")],
    delete: Annotated[
        bool, typer.Option("--delete", help="Remove the file's items. Needs column item_id only.")
    ] = False,
) -> None:
    """Publish items, or remove them.

    Optional columns: description, brand, category, price, available, domain, deleted.

    Example: anabranch catalogue products.csv
    """
    from contextlib import closing

    from anabranch.input_files.items import read_items
    from anabranch.kafka import clients
    from anabranch.kafka.topics import Topics
    from anabranch.progress_bar import bar
    from producers.catalogue import publish

    settings = settings_of(ctx)
    clients.require_topics(settings)
    with closing(clients.producer(settings)) as producer, bar(f"Catalogue {file.name}") as advance:
        publish(read_items(file, delete), producer, Topics(settings).items, advance)
