"""JSON for people to read: the same form in files and on the terminal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec


def format_json(value: Any) -> bytes:
    """Indented JSON."""
    return msgspec.json.format(msgspec.json.encode(value), indent=2)


def write_json(path: Path, value: Any) -> None:
    """Write a value as indented JSON."""
    path.write_bytes(format_json(value))
