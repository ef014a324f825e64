"""The AsyncAPI 3.0 document of the topics, made of their specification and of the wire schema.

Sources: AsyncAPI Specification 3.0.0; its Kafka bindings, version 0.5.0. Payloads are JSON Schema 2020-12.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import UnionType
from typing import Any, get_args

import msgspec

from anabranch.kafka.topics import Topic, TopicName, Topics
from anabranch.messages import TOPIC_SCHEMAS
from anabranch.settings import Settings

VERSION = "3.0.0"
BINDING_VERSION = "0.5.0"
FILE = "asyncapi.json"
JSON_SCHEMA = "application/schema+json;version=draft-2020-12"
OTHER_PAYLOADS: Mapping[str, tuple[str, str]] = {
    "user-state": ("application/vnd.msgpack", "Of rankers and replicas alone: it changes with any version."),
    "events.dead-letter": ("application/octet-stream", "The bytes of the record that could not be read."),
}
"""Topics whose messages are no JSON: content type and description."""
RECEIVED = ("events", "items")
"""Topics to which shops publish. Anabranch publishes to all of them, these too: what it takes over HTTP and from
files."""
DESCRIPTION = (
    "The topics of an installation with the default settings: names get topic_prefix, and partitions, retention and "
    "sizes are settings. Keys are UTF-8; a null value is a tombstone, which removes the key from a compacted topic. "
    "Consumers have to ignore fields that they do not know."
)


def asyncapi_document() -> dict[str, Any]:
    """The document, for the default settings."""
    types = [kind for schema in TOPIC_SCHEMAS.values() for kind in _types(schema)]
    schemas, components = msgspec.json.schema_components(types, ref_template="#/components/schemas/{name}")
    payloads = {kind.__name__: schema for kind, schema in zip(types, schemas, strict=True)}
    topics = {topic.name: topic for topic in Topics(Settings()).all}
    return {
        "asyncapi": VERSION,
        "info": {
            "title": "Anabranch: topics",
            "version": "1",
            "description": DESCRIPTION,
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "channels": {name: _channel(name, topics[name]) for name in get_args(TopicName)},
        "operations": dict(_operation(name, action) for name in get_args(TopicName) for action in _actions(name)),
        "components": {
            "messages": {name: _message(payload) for name, payload in payloads.items()}
            | {_other_name(name): _other_message(name) for name in OTHER_PAYLOADS},
            "schemas": components,
        },
    }


def _types(schema: object) -> tuple[type, ...]:
    """The messages of a topic."""
    return get_args(schema) if isinstance(schema, UnionType) else (schema,)


def _actions(topic: str) -> tuple[str, ...]:
    return ("receive", "send") if topic in RECEIVED else ("send",)


def _channel(name: str, topic: Topic) -> dict[str, Any]:
    """The description is that of the topic's property."""
    described = getattr(Topics, name.removeprefix("events.").replace("-", "_")).__doc__
    return {
        "address": name,
        "description": described,
        "messages": {message: {"$ref": f"#/components/messages/{message}"} for message in _message_names(name)},
        "bindings": {
            "kafka": {
                "partitions": topic.partitions,
                "replicas": topic.replication_factor,
                "topicConfiguration": _configuration(topic.configs),
                "bindingVersion": BINDING_VERSION,
            }
        },
    }


def _configuration(configs: Mapping[str, str]) -> dict[str, Any]:
    """What the bindings have a field for."""
    numbers = ("retention.ms", "max.message.bytes")
    return {"cleanup.policy": configs["cleanup.policy"].split(",")} | {
        name: int(configs[name]) for name in numbers if name in configs
    }


def _operation(topic: str, action: str) -> tuple[str, dict[str, Any]]:

    return f"{action}:{topic}", {"action": action, "channel": {"$ref": f"#/channels/{topic}"}}


def _message_names(topic: str) -> list[str]:
    if topic in OTHER_PAYLOADS:
        return [_other_name(topic)]
    return [kind.__name__ for kind in _types(TOPIC_SCHEMAS[topic])]


def _message(payload: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "contentType": "application/json",
        "payload": {"schemaFormat": JSON_SCHEMA, "schema": payload},
        "bindings": {"kafka": {"key": {"type": "string"}, "bindingVersion": BINDING_VERSION}},
    }


def _other_name(topic: str) -> str:
    """Such as `DeadLetter`."""
    return topic.removeprefix("events.").title().replace("-", "")


def _other_message(topic: str) -> dict[str, Any]:
    content_type, description = OTHER_PAYLOADS[topic]
    return {
        "contentType": content_type,
        "description": description,
        "bindings": {"kafka": {"key": {"type": "string"}, "bindingVersion": BINDING_VERSION}},
    }
