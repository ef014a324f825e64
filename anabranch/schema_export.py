"""Files generated from the code, for programs in other languages: JSON Schemas of the messages, and the documents that
a composition root adds. They are checked in, beside this module in `schemas`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec

from anabranch.indented_json import format_json
from anabranch.messages import TOPIC_SCHEMAS

FOLDER = Path(__file__).parent / "schemas"
DIALECT = "https://json-schema.org/draft/2020-12/schema"


def message_schemas() -> dict[str, bytes]:
    """File name → JSON Schema, one for each topic with JSON messages."""
    return {f"{topic}.json": _schema(topic, message) for topic, message in TOPIC_SCHEMAS.items()}


def write(files: Mapping[str, bytes], folder: Path = FOLDER) -> None:
    """Write generated files, by name, to a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)


def outdated(files: Mapping[str, bytes], folder: Path = FOLDER) -> list[str]:
    """Names of the files that are missing or differ from the generated ones, and of those that nothing generates."""
    present = {path.name: path.read_bytes() for path in folder.glob("*.json")}
    return sorted(name for name in files.keys() | present.keys() if files.get(name) != present.get(name))


def _schema(topic: str, message: object) -> bytes:
    schema = {"$schema": DIALECT, "title": f"Message on `{topic}`", **msgspec.json.schema(message)}
    return as_file(schema)


def as_file(document: object) -> bytes:
    """A document as the bytes of its file."""
    return format_json(document) + b"\n"
