"""What commands print."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer


def moment(ts: int) -> str:
    """A time (UTC ms) for a table."""
    from datetime import UTC, datetime

    return datetime.fromtimestamp(ts / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")


def show_json(value: Any, target: Path | None = None) -> None:
    """Print a value as indented JSON, and write it to the target, if there is one."""
    from anabranch.indented_json import format_json, write_json

    typer.echo(format_json(value))
    if target is not None:
        write_json(target, value)
