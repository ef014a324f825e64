"""The topics: names, keys, partitions and settings; their creation and check."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal

from kafka.admin import ConfigResource, ConfigResourceType, KafkaAdminClient, NewTopic
from kafka.errors import KafkaError, TopicAlreadyExistsError
from msgspec import Struct

from anabranch.errors import TopicsDiffer
from anabranch.kafka.partitions import added_to_table, added_to_users
from anabranch.settings import Settings

TopicName = Literal[
    "events",
    "identities",
    "items",
    "item-vectors",
    "rankings",
    "feedback",
    "user-state",
    "neighbours",
    "releases",
    "events.dead-letter",
    "replays",
    "rules",
    "rule-changes",
]
SEPARATOR = "\x1f"
"""Between item and release in the key of an item vector: the ASCII unit separator, which ids must not contain."""
ONE_PARTITION: tuple[TopicName, ...] = ("releases", "replays", "rules", "rule-changes")
"""Topics with few records."""
DAY_MS = 86_400_000
KEPT_FOR_EVER = "-1"
KEYED_BY_USER: tuple[TopicName, ...] = ("events", "rankings", "feedback", "user-state", "events.dead-letter")
"""An event, its user's state, its ranking, feedback and dead letter are in partitions of the same number. `topics
repartition` adds partitions to all of these."""
TABLES: tuple[TopicName, ...] = ("items", "item-vectors", "neighbours", "identities")
"""They are read as a whole, and the newest record of a key counts, so a key must stay in its partition."""
ENVELOPE_BYTES = 65_536
"""Most bytes that feedback or a dead letter adds to its event."""
OWN_BYTES = 1_048_576
"""Room for a user state, an item vector or an item's neighbours, however small `max_message_bytes` is."""
RANKED_ITEM_BYTES = 4 * 512 + 64
"""Most bytes of an item of a slate: an id of 512 characters, the score and the purchase probability."""


CODEC_OF_PRODUCER = {"compression.type": "producer"}
"""A batch stays as its producer compressed it, whatever the broker's default. With any other value, the broker would
compress every batch of another codec again, and hold all that it decompresses to in its own memory meanwhile; a value
of `uncompressed` would also give up the room that compression saves. Readers need no such help: they have every codec,
and bound what they decompress."""


class Topic(Struct, frozen=True):
    """The specification of a topic."""

    name: str
    partitions: int
    replication_factor: int
    configs: dict[str, str]


class Topics:
    """The topics of one installation, by their names on the broker."""

    def __init__(self, settings: Settings) -> None:
        self._prefix = settings.topic_prefix
        self.all: tuple[Topic, ...] = tuple(_topics(settings))

    def name(self, topic: TopicName) -> str:
        """The name on the broker, with `topic_prefix`."""
        return f"{self._prefix}{topic}"

    @property
    def events(self) -> str:
        """Events of users, keyed by user."""
        return self.name("events")

    @property
    def identities(self) -> str:
        """The users whom anonymous ids turned out to be, keyed by anonymous id."""
        return self.name("identities")

    @property
    def items(self) -> str:
        """The catalogue, keyed by item."""
        return self.name("items")

    @property
    def item_vectors(self) -> str:
        """Item vectors, keyed by item and release."""
        return self.name("item-vectors")

    @property
    def rankings(self) -> str:
        """Slates, keyed by user."""
        return self.name("rankings")

    @property
    def feedback(self) -> str:
        """Events joined with the user's slate, keyed by user."""
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
        """Status of the releases, keyed by release."""
        return self.name("releases")

    @property
    def dead_letter(self) -> str:
        """Records that could not be read, with their original bytes."""
        return self.name("events.dead-letter")

    @property
    def replays(self) -> str:
        """How far replays of dead letters and of files came: see `anabranch.kafka.replay_progress` for the keys."""
        return self.name("replays")

    @property
    def rules(self) -> str:
        """Merchandisers' rules, keyed by rule."""
        return self.name("rules")

    @property
    def rule_changes(self) -> str:
        """Who changed which rule, keyed by rule."""
        return self.name("rule-changes")


def key(identifier: str) -> bytes:
    """The key in every topic that is keyed by one id: user, anonymous id, item, release or rule."""
    return identifier.encode()


def vector_key(item_id: str, release: str) -> bytes:
    """Key of an item's vector; with an empty item id, of the release's coverage."""
    return f"{item_id}{SEPARATOR}{release}".encode()


def completion_key(release: str) -> bytes:
    """Key of the message that says the catalogue is covered."""
    return vector_key("", release)


def split_vector_key(payload: bytes) -> tuple[str, str]:
    """Item id (empty for a coverage) and release of a key. Raises `ValueError` for any other key."""
    item_id, separator, release = payload.decode().rpartition(SEPARATOR)
    if not separator:
        raise ValueError(f"{payload!r} is not the key of an item vector")
    return item_id, release


def largest_record_bytes(settings: Settings) -> int:
    """Most bytes of a batch of one record that Anabranch publishes: dead letters, feedback and rankings are largest."""
    slate_bytes = settings.slate_size * len(settings.placements) * RANKED_ITEM_BYTES
    return max(settings.max_message_bytes, OWN_BYTES, slate_bytes) + ENVELOPE_BYTES


def provision(admin: KafkaAdminClient, settings: Settings) -> list[str]:
    """Create missing topics and return their names. Raises `TopicsDiffer` if existing ones differ."""
    topics = Topics(settings).all
    present = set(admin.list_topics())
    missing = [topic for topic in topics if topic.name not in present]
    for topic in missing:
        _create(admin, topic)
    if missing:
        admin.wait_for_topics([topic.name for topic in missing])
    require(admin, settings)
    return [topic.name for topic in missing]


def require(admin: KafkaAdminClient, settings: Settings, configs: bool = True, more: bool = False) -> None:
    """Raises `TopicsDiffer` unless every topic is as specified; with `more`, users' topics may have more partitions."""
    differences = check(admin, settings, configs, more)
    if differences:
        raise TopicsDiffer(differences)


def check(admin: KafkaAdminClient, settings: Settings, configs: bool = True, more: bool = False) -> list[str]:
    """The differences between the broker's topics and their specification, one line each.

    Without `configs`, only existence and the number of partitions are checked, which every process needs. With `more`,
    topics with users as keys may have more partitions than specified.
    """
    topics = Topics(settings).all
    partitions = partition_counts(admin, (topic.name for topic in topics))
    actual_configs = _configs(admin, list(partitions)) if partitions and configs else {}
    by_user = {f"{settings.topic_prefix}{name}" for name in KEYED_BY_USER}
    if more:
        partitions |= {
            topic.name: min(topic.partitions, partitions[topic.name])
            for topic in topics
            if topic.name in by_user & partitions.keys()
        }
    return [line for topic in topics for line in _differences(topic, topic.name in by_user, partitions, actual_configs)]


def partition_counts(admin: KafkaAdminClient, names: Iterable[str]) -> dict[str, int]:
    """How many partitions each topic has, of those that exist."""
    present = set(admin.list_topics()) & set(names)
    descriptions = admin.describe_topics(sorted(present)) if present else []
    return {description["name"]: len(description["partitions"]) for description in descriptions}


def _topics(settings: Settings) -> Iterator[Topic]:
    retention = {"retention.ms": str(int(settings.retention_days * DAY_MS))}
    delete = {"cleanup.policy": "delete", **retention}
    compact = {"cleanup.policy": "compact"}
    append_time = {"message.timestamp.type": "LogAppendTime"}  # latency is measured from append to append
    configs: dict[TopicName, dict[str, str]] = {
        "events": delete | append_time,
        "identities": compact,
        "items": compact,
        "item-vectors": compact,
        "rankings": {"cleanup.policy": "compact,delete", **retention} | append_time,
        "feedback": delete,
        # The cleaner does not compact the newest segment, 1 GiB by default, and a restore reads all of it.
        "user-state": compact | {"segment.bytes": str(64 << 20)},
        "neighbours": compact,
        "releases": compact,
        # By the time of the append a recovery finds the dead letters of the events that it replays.
        "events.dead-letter": delete | append_time,
        "replays": compact,
        "rules": compact,
        "rule-changes": {"cleanup.policy": "delete", "retention.ms": KEPT_FOR_EVER},
    }
    own, largest = max(settings.max_message_bytes, OWN_BYTES), largest_record_bytes(settings)
    foreign = dict.fromkeys(("events", "items"), settings.max_message_bytes)
    sizes = foreign | dict.fromkeys(("rankings", "feedback", "events.dead-letter", "user-state"), largest)
    for name, config in configs.items():
        yield Topic(
            name=f"{settings.topic_prefix}{name}",
            partitions=_partitions(name, settings),
            replication_factor=settings.replication_factor,
            configs=config | CODEC_OF_PRODUCER | {"max.message.bytes": str(sizes.get(name, own))},
        )


def _partitions(name: TopicName, settings: Settings) -> int:
    if name in ONE_PARTITION:
        return 1
    return (settings.item_partitions if name in TABLES else None) or settings.partitions


def _create(admin: KafkaAdminClient, topic: Topic) -> None:
    try:
        admin.create_topics(
            [NewTopic(topic.name, topic.partitions, topic.replication_factor, topic_configs=topic.configs)]
        )
    except TopicAlreadyExistsError:
        return  # another process creates the topics at the same time; `require` checks them
    except KafkaError as error:
        raise TopicsDiffer([f"{topic.name} cannot be created: {error}"]) from error


def _configs(admin: KafkaAdminClient, names: list[str]) -> Mapping[str, Mapping[str, Any]]:
    resources = [ConfigResource(ConfigResourceType.TOPIC, name) for name in names]
    configs: Mapping[str, Mapping[str, Any]] = admin.describe_configs(resources, config_filter="all")["topic"]
    return configs


def _differences(
    topic: Topic, by_user: bool, partitions: Mapping[str, int], configs: Mapping[str, Mapping[str, Any]]
) -> Iterator[str]:
    if topic.name not in partitions:
        yield f"{topic.name} is missing: `anabranch topics provision` creates it"
        return
    actual_partitions = partitions[topic.name]
    if actual_partitions > topic.partitions:
        yield (added_to_users if by_user else added_to_table)(topic.name, actual_partitions, topic.partitions)
    elif actual_partitions < topic.partitions:
        yield (
            f"{topic.name} has {actual_partitions} partitions, not {topic.partitions}: set "
            f"`{'partitions' if by_user else 'item_partitions'}` to match, or use another topic_prefix"
        )
    for name, expected in topic.configs.items():
        actual = configs.get(topic.name, {}).get(name, {}).get("value")
        if actual is not None and _words(actual) != _words(expected):
            value = f"[{expected}]" if "," in expected else expected
            yield (
                f"{topic.name} has {name}={actual}, not {expected}: change it with the broker's tools, "
                f"`kafka-configs.sh --alter --topic {topic.name} --add-config {name}={value}`"
            )


def _words(value: str) -> set[str]:
    return set(value.split(","))
