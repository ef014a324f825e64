"""`anabranch check`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from anabranch.cli import file_options
from anabranch.cli.options import settings_of


def command(
    ctx: typer.Context,
    files: Annotated[list[Path], typer.Argument(help="Files of events and of items, or folders of their parts.")],
    columns: file_options.Columns = None,
    types: file_options.Types = None,
    type: file_options.DefaultType = "purchase",
    encoding: file_options.Encoding = None,
) -> None:
    """Read files of events and items, and print what they hold and which rows cannot be read. Publishes nothing.

    A file with users and times holds events, any other holds items. The exit code is 1 if a row cannot be read.

    Example: anabranch check events.csv products.csv
    """
    from anabranch.input_files.report import check_files

    report = check_files(files, file_options.event_options(settings_of(ctx), columns, types, type, encoding))
    for line in report.lines:
        typer.echo(line)
    raise typer.Exit(1 if report.fault_count else 0)
