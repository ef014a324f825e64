"""`anabranch schema`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def command(
    folder: Annotated[Path | None, typer.Option(help="Output folder. Default: the folder in the package.")] = None,
    check: Annotated[bool, typer.Option("--check", help="Write nothing, and fail if a file is out of date.")] = False,
) -> None:
    """Write the JSON Schemas of the messages, generated from anabranch/messages.py.

    Example: anabranch schema --folder schemas
    """
    from anabranch import schema_export
    from anabranch.errors import AnabranchError

    target = folder or schema_export.FOLDER
    if not check:
        schema_export.write(target)
    old = schema_export.outdated(target)
    if old:
        raise AnabranchError(f"out of date in {target}: {', '.join(old)}; run `anabranch schema` to write them")
    typer.echo(f"{len(schema_export.generate())} schemas in {target} are up to date")
