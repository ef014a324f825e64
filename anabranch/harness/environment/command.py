"""What the commands of the harness have in common: an orderly end on SIGTERM, a quiet log, figures as JSON."""

from __future__ import annotations

import logging
import signal
from pathlib import Path
from typing import Any

import msgspec
import typer


def prepare_command() -> None:
    """Handle SIGTERM like Ctrl-C, so that brokers and processes are stopped, and silence kafka-python.

    kafka-python logs an error for every socket that its peer closes first, which killed brokers do all the time.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    logging.getLogger("kafka").setLevel(logging.CRITICAL)


def format_json(value: Any) -> bytes:
    """Indented JSON."""
    return msgspec.json.format(msgspec.json.encode(value), indent=2)


def write_json(path: Path, value: Any) -> None:
    """Write a value as indented JSON."""
    path.write_bytes(format_json(value))


def show_json(value: Any, target: Path | None = None) -> None:
    """Print a value as indented JSON, and write it to the target, if there is one."""
    typer.echo(format_json(value))
    if target is not None:
        write_json(target, value)
