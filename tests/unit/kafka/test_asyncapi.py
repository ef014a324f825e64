"""The AsyncAPI document has what the topics have."""

from __future__ import annotations

from typing import get_args

from anabranch.kafka.asyncapi import asyncapi_document
from anabranch.kafka.topics import TopicName, Topics
from anabranch.messages import TOPIC_SCHEMAS
from anabranch.settings import Settings

DOCUMENT = asyncapi_document()


def test_every_topic_is_a_channel_and_every_channel_is_a_topic() -> None:
    assert set(DOCUMENT["channels"]) == set(get_args(TopicName))
    assert set(TOPIC_SCHEMAS) < set(get_args(TopicName))


def test_a_channel_is_as_its_topic_is_specified() -> None:
    for topic in Topics(Settings()).all:
        channel = DOCUMENT["channels"][topic.name]
        kafka = channel["bindings"]["kafka"]
        assert (kafka["partitions"], kafka["replicas"]) == (topic.partitions, topic.replication_factor)
        assert ",".join(kafka["topicConfiguration"]["cleanup.policy"]) == topic.configs["cleanup.policy"]
        assert channel["description"]


def test_every_message_of_a_topic_has_its_payload() -> None:
    assert set(DOCUMENT["channels"]["item-vectors"]["messages"]) == {"ItemVector", "IndexingComplete"}
    event = DOCUMENT["components"]["messages"]["Event"]
    assert event["payload"]["schema"] == {"$ref": "#/components/schemas/Event"}
    assert set(DOCUMENT["components"]["schemas"]["Event"]["required"]) == {"event_id", "user_id", "type", "ts"}
    with_payload = {name for name, message in DOCUMENT["components"]["messages"].items() if "payload" in message}
    assert set(DOCUMENT["components"]["messages"]) - with_payload == {"UserState", "DeadLetter"}


def test_every_topic_has_an_operation_and_shops_publish_events_and_items() -> None:
    operations = DOCUMENT["operations"].values()
    assert {operation["channel"]["$ref"] for operation in operations} == {
        f"#/channels/{n}" for n in DOCUMENT["channels"]
    }
    assert [operation["channel"]["$ref"] for operation in operations if operation["action"] == "receive"] == [
        "#/channels/events",
        "#/channels/items",
    ]
