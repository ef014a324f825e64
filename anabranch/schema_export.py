"""JSON Schemas of the messages, generated from the wire schema, for producers and consumers in other languages."""

from __future__ import annotations

from pathlib import Path

import msgspec

from anabranch.indented_json import format_json
from anabranch.messages import TOPIC_SCHEMAS

FOLDER = Path(__file__).parent / "schemas"
DIALECT = "https://json-schema.org/draft/2020-12/schema"


def generate() -> dict[str, bytes]:
    """File name → JSON Schema, one for each topic with JSON messages."""
    return {f"{topic}.json": _schema(topic, message) for topic, message in TOPIC_SCHEMAS.items()}


def write(folder: Path = FOLDER) -> list[Path]:
    """Write the schemas to a folder, and return the files."""
    folder.mkdir(parents=True, exist_ok=True)
    files = {folder / name: schema for name, schema in generate().items()}
    for path, schema in files.items():
        path.write_bytes(schema)
    return list(files)


def outdated(folder: Path = FOLDER) -> list[str]:
    """Names of the files that are missing or differ from the current wire schema."""
    return [
        name
        for name, schema in generate().items()
        if not (folder / name).is_file() or (folder / name).read_bytes() != schema
    ]


def _schema(topic: str, message: object) -> bytes:
    schema = {"$schema": DIALECT, "title": f"Message on `{topic}`", **msgspec.json.schema(message)}
    return format_json(schema) + b"\n"
