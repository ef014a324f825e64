"""The topics: names, keys, partitions, cleanup; creating them and telling what differs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal

from kafka.admin import ConfigResource, ConfigResourceType, KafkaAdminClient, NewTopic
from kafka.errors import KafkaError, TopicAlreadyExistsError
from msgspec import Struct

from anabranch.errors import TopicsDiffer
from anabranch.settings import Settings

TopicName = Literal[
    "events",
    "items",
    "item-vectors",
    "rankings",
    "feedback",
    "user-state",
    "neighbours",
    "releases",
    "events.dead-letter",
]
SEPARATOR = "\x1f"
"""Between item and release in the key of an item vector: the ASCII unit separator, which no id may hold."""
DAY_MS = 86_400_000
ENVELOPE_BYTES = 65_536
"""What a feedback or a dead letter may add to the largest event."""


class Topic(Struct, frozen=True):
    """One topic as it should be."""

    name: str
    partitions: int
    replication_factor: int
    configs: dict[str, str]


class Topics:
    """The topics of one Anabranch, by their names on the broker."""

    def __init__(self, settings: Settings) -> None:
        self._prefix = settings.topic_prefix
        self.all: tuple[Topic, ...] = tuple(_topics(settings))

    def name(self, topic: TopicName) -> str:
        """What the broker calls a topic of the design."""
        return f"{self._prefix}{topic}"

    @property
    def events(self) -> str:
        """What users did, keyed by user."""
        return self.name("events")

    @property
    def items(self) -> str:
        """What can be ranked, keyed by item."""
        return self.name("items")

    @property
    def item_vectors(self) -> str:
        """Vectors of items, keyed by item and release."""
        return self.name("item-vectors")

    @property
    def rankings(self) -> str:
        """Slates, keyed by user."""
        return self.name("rankings")

    @property
    def feedback(self) -> str:
        """Events joined with slates, keyed by user."""
        return self.name("feedback")

    @property
    def user_state(self) -> str:
        """Saved user states, keyed by user, and each partition's marker."""
        return self.name("user-state")

    @property
    def neighbours(self) -> str:
        """Co-visited items, keyed by item."""
        return self.name("neighbours")

    @property
    def releases(self) -> str:
        """What became of releases, keyed by release."""
        return self.name("releases")

    @property
    def dead_letter(self) -> str:
        """Messages that could not be read, as they came."""
        return self.name("events.dead-letter")


def key(identifier: str) -> bytes:
    """Key of every topic that is keyed by one id: user, item or release."""
    return identifier.encode()


def vector_key(item_id: str, release: str) -> bytes:
    """Key of an item's vector; with an empty item id, of the release's coverage."""
    return f"{item_id}{SEPARATOR}{release}".encode()


def coverage_key(release: str) -> bytes:
    """Key of the message that says the catalogue is covered."""
    return vector_key("", release)


def split_vector_key(payload: bytes) -> tuple[str, str]:
    """Item id (empty for a coverage) and release of a key. Raises `ValueError` for any other key."""
    item_id, separator, release = payload.decode().rpartition(SEPARATOR)
    if not separator:
        raise ValueError(f"{payload!r} is not the key of an item vector")
    return item_id, release


def provision(admin: KafkaAdminClient, settings: Settings) -> list[str]:
    """Create the topics that are missing; their names. Raises `TopicsDiffer` where existing ones are different."""
    topics = Topics(settings).all
    present = set(admin.list_topics())
    missing = [topic for topic in topics if topic.name not in present]
    for topic in missing:
        _create(admin, topic)
    if missing:
        admin.wait_for_topics([topic.name for topic in missing])
    require(admin, settings)
    return [topic.name for topic in missing]


def require(admin: KafkaAdminClient, settings: Settings, configs: bool = True) -> None:
    """Raises `TopicsDiffer` unless every topic is as it should be."""
    differences = check(admin, settings, configs)
    if differences:
        raise TopicsDiffer(differences)


def check(admin: KafkaAdminClient, settings: Settings, configs: bool = True) -> list[str]:
    """What differs between the broker's topics and the design, one line each; empty if nothing does.

    Without `configs` only existence and partitions count: what a process cannot do without.
    """
    topics = Topics(settings).all
    present = set(admin.list_topics())
    names = [topic.name for topic in topics if topic.name in present]
    partitions = {found["name"]: len(found["partitions"]) for found in admin.describe_topics(names)} if names else {}
    found_configs = _configs(admin, names) if names and configs else {}
    return [line for topic in topics for line in _differences(topic, partitions, found_configs)]


def _topics(settings: Settings) -> Iterator[Topic]:
    retention = {"retention.ms": str(int(settings.retention_days * DAY_MS))}
    delete = {"cleanup.policy": "delete", **retention}
    compact = {"cleanup.policy": "compact"}
    append_time = {"message.timestamp.type": "LogAppendTime"}  # the latency of a ranking is append to append
    configs: dict[TopicName, dict[str, str]] = {
        "events": delete | append_time,
        "items": compact,
        "item-vectors": compact,
        "rankings": {"cleanup.policy": "compact,delete", **retention} | append_time,
        "feedback": delete,
        # The cleaner leaves the newest segment alone, and a restore reads all there is: a gigabyte by default.
        "user-state": compact | {"segment.bytes": str(64 << 20)},
        "neighbours": compact,
        "releases": compact,
        "events.dead-letter": delete,
    }
    derived = ("rankings", "feedback", "events.dead-letter", "user-state")  # these carry an event or a state, and more
    for name, config in configs.items():
        size = settings.max_message_bytes + (ENVELOPE_BYTES if name in derived else 0)
        yield Topic(
            name=f"{settings.topic_prefix}{name}",
            partitions=1 if name == "releases" else settings.partitions,
            replication_factor=settings.replication_factor,
            configs=config | {"max.message.bytes": str(size)},
        )


def _create(admin: KafkaAdminClient, topic: Topic) -> None:
    try:
        admin.create_topics(
            [NewTopic(topic.name, topic.partitions, topic.replication_factor, topic_configs=topic.configs)]
        )
    except TopicAlreadyExistsError:
        return  # another process provisions at the same time; `require` looks at what it made
    except KafkaError as error:
        raise TopicsDiffer([f"{topic.name} cannot be created: {error}"]) from error


def _configs(admin: KafkaAdminClient, names: list[str]) -> Mapping[str, Mapping[str, Any]]:
    resources = [ConfigResource(ConfigResourceType.TOPIC, name) for name in names]
    found: Mapping[str, Mapping[str, Any]] = admin.describe_configs(resources, config_filter="all")["topic"]
    return found


def _differences(
    topic: Topic, partitions: Mapping[str, int], configs: Mapping[str, Mapping[str, Any]]
) -> Iterator[str]:
    if topic.name not in partitions:
        yield f"{topic.name} is missing: `anabranch topics provision` creates it"
        return
    if partitions[topic.name] != topic.partitions:
        yield (
            f"{topic.name} has {partitions[topic.name]} partitions, not {topic.partitions}: "
            "set `partitions` to match, or use another topic_prefix"
        )
    for name, wanted in topic.configs.items():
        found = configs.get(topic.name, {}).get(name, {}).get("value")
        if found is not None and _words(found) != _words(wanted):
            yield f"{topic.name} has {name}={found}, not {wanted}: alter it with your broker's own tools"


def _words(value: str) -> set[str]:
    return set(value.split(","))
