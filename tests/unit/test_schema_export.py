from __future__ import annotations

from pathlib import Path

import jsonschema
import msgspec
import pytest

from anabranch import schema_export
from anabranch.messages import TOPIC_SCHEMAS

SCHEMAS = schema_export.message_schemas()


def test_an_altered_file_is_told(tmp_path: Path) -> None:
    schema_export.write(SCHEMAS, tmp_path)
    (tmp_path / "events.json").write_bytes(b"{}")
    assert schema_export.outdated(SCHEMAS, tmp_path) == ["events.json"]


def test_a_removed_file_is_told(tmp_path: Path) -> None:
    schema_export.write(SCHEMAS, tmp_path)
    (tmp_path / "items.json").unlink()
    assert schema_export.outdated(SCHEMAS, tmp_path) == ["items.json"]


def test_a_file_that_nothing_generates_any_more_is_told(tmp_path: Path) -> None:
    schema_export.write(SCHEMAS | {"old.json": b"{}"}, tmp_path)
    assert schema_export.outdated(SCHEMAS, tmp_path) == ["old.json"]


@pytest.mark.parametrize("topic", TOPIC_SCHEMAS)
def test_every_schema_is_valid_json_schema(topic: str) -> None:
    schema = msgspec.json.decode(SCHEMAS[f"{topic}.json"])
    jsonschema.Draft202012Validator.check_schema(schema)


def test_a_schema_accepts_an_event_and_refuses_one_without_its_user() -> None:
    schema = msgspec.json.decode(SCHEMAS["events.json"])
    event = {"event_id": "e", "user_id": "u", "type": "view", "ts": 1, "item_id": "i"}
    validator = jsonschema.Draft202012Validator(schema)
    assert validator.is_valid(event)
    assert not validator.is_valid({name: value for name, value in event.items() if name != "user_id"})
