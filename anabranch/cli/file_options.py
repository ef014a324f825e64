"""Options of the commands that read files of events and items."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from anabranch.input_files.check import Content
    from anabranch.input_files.events import EventOptions
    from anabranch.input_files.faults import Faults
    from anabranch.settings import Settings

Columns = Annotated[
    str | None,
    typer.Option(
        metavar="FIELD=COLUMN,…",
        help="Which column a field is read from, such as user_id=visitorid,ts=timestamp. A|B: B where A is empty.",
    ),
]
Types = Annotated[
    str | None,
    typer.Option(
        metavar="WORD=TYPE,…",
        help="Which event type a word of the file is, such as addtocart=cart. WORD= leaves such rows out.",
    ),
]
DefaultType = Annotated[str, typer.Option(help="Type of events that have none.")]
Encoding = Annotated[str | None, typer.Option(help="Encoding of text files, such as cp1252. Default: UTF-8.")]
SkipFaulty = Annotated[
    bool, typer.Option("--skip-faulty", help="Leave out rows that cannot be read, and list them in a file.")
]


def event_options(
    settings: Settings, columns: str | None, types: str | None, default_type: str, encoding: str | None
) -> EventOptions:
    """How files of events and items are read; the columns may be of either. Raises `UsageError`."""
    from anabranch.input_files.columns import FIELDS
    from anabranch.input_files.events import EventOptions
    from anabranch.own_event_types import OwnEventTypes

    own_types = OwnEventTypes(settings.event_types)
    return EventOptions.parse(columns, types, default_type, encoding, FIELDS, own_types)


def skipped_path(settings: Settings, file: Path, content: Content, skip_faulty: bool) -> Path | None:
    """Where the rows that are left out are listed, None if none may be left out. One file may hold both contents."""
    return settings.data_dir / "skipped" / f"{file.name}.{content}.jsonl" if skip_faulty else None


def say(file: Path, lines: Sequence[str], faults: Faults, skipped: Path | None) -> None:
    """Print how a file was read, on stderr. Raises `FaultyFile` if rows cannot be read, unless they are skipped."""
    from anabranch.input_files.faults import counted

    typer.echo(f"{file}", err=True)
    for line in lines:
        typer.echo(f"  {line}", err=True)
    if skipped is None:
        faults.require_none(str(file))
    elif faults.count:
        typer.echo(f"  left out: {counted(faults.count, 'row')}, listed with the reasons in {skipped}", err=True)
