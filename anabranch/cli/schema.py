"""`anabranch schema`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def command(
    folder: Annotated[Path | None, typer.Option(help="Where to; default: the package's own folder.")] = None,
    check: Annotated[bool, typer.Option("--check", help="Write nothing; fail if a file is out of date.")] = False,
) -> None:
    """Write the JSON Schemas of the messages, generated from anabranch/messages.py.

    Example: anabranch schema --folder schemas
    """
    from anabranch import json_schemas
    from anabranch.errors import AnabranchError

    target = folder or json_schemas.FOLDER
    if not check:
        json_schemas.write(target)
    old = json_schemas.outdated(target)
    if old:
        raise AnabranchError(f"out of date in {target}: {', '.join(old)}; `anabranch schema` writes them")
    typer.echo(f"{len(json_schemas.generate())} schemas in {target} are current")
