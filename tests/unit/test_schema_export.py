from __future__ import annotations

from pathlib import Path

import jsonschema
import msgspec
import pytest

from anabranch import schema_export
from anabranch.messages import TOPIC_SCHEMAS


def test_the_schemas_in_the_package_are_what_the_wire_schema_says() -> None:
    assert schema_export.outdated() == [], "run `anabranch schema`"


def test_an_altered_schema_is_told(tmp_path: Path) -> None:
    schema_export.write(tmp_path)
    (tmp_path / "events.json").write_bytes(b"{}")
    assert schema_export.outdated(tmp_path) == ["events.json"]


def test_a_removed_schema_is_told(tmp_path: Path) -> None:
    schema_export.write(tmp_path)
    (tmp_path / "items.json").unlink()
    assert schema_export.outdated(tmp_path) == ["items.json"]


@pytest.mark.parametrize("topic", TOPIC_SCHEMAS)
def test_every_schema_is_valid_json_schema(topic: str) -> None:
    schema = msgspec.json.decode(schema_export.generate()[f"{topic}.json"])
    jsonschema.Draft202012Validator.check_schema(schema)


def test_a_schema_accepts_an_event_and_refuses_one_without_its_user() -> None:
    schema = msgspec.json.decode(schema_export.generate()["events.json"])
    event = {"event_id": "e", "user_id": "u", "type": "view", "ts": 1, "item_id": "i"}
    validator = jsonschema.Draft202012Validator(schema)
    assert validator.is_valid(event)
    assert not validator.is_valid({name: value for name, value in event.items() if name != "user_id"})
