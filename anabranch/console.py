"""The console on which commands print tables."""

from __future__ import annotations

import os

from rich.console import Console

FILE_COLUMNS = 10_000
"""Width where the output is no terminal: rich would cut tables at 80 columns. A table takes only what it needs."""


def output_console() -> Console:
    """A console on stdout. Where that is no terminal, nothing is cut or wrapped, unless `COLUMNS` sets a width."""
    console = Console()
    has_width = console.is_terminal or "COLUMNS" in os.environ
    return console if has_width else Console(width=FILE_COLUMNS)
