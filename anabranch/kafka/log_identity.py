"""Which log an offset belongs to: the cluster, the topic prefix, and the ids of the topics."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing

from msgspec import Struct

from anabranch.errors import BrokerUnavailable
from anabranch.kafka import clients
from anabranch.kafka.topics import TopicName, Topics
from anabranch.settings import Settings


class LogIdentity(Struct, frozen=True, kw_only=True):
    """The topics that a process has read, told apart from all others of the same names.

    A topic that is deleted and created again has a new id (KIP-516). Brokers before 2.8 give topics no id.
    """

    cluster_id: str
    topic_prefix: str
    topic_ids: dict[str, str]
    """Id of each topic, by its name without the prefix; a topic without an id is left out."""

    @classmethod
    def read(cls, settings: Settings, topics: Sequence[TopicName]) -> LogIdentity:
        """Ask the broker. Raises `BrokerUnavailable` if a topic does not exist."""
        names: dict[str, str] = {Topics(settings).name(topic): topic for topic in topics}
        with closing(clients.admin(settings)) as admin:
            cluster_id = str(admin.describe_cluster()["cluster_id"])
            described = admin.describe_topics(list(names))
        for topic in described:
            if topic["error_code"]:
                raise BrokerUnavailable(
                    f"the broker has no topic {topic['name']}: create it with `anabranch topics provision`"
                )
        topic_ids = {names[topic["name"]]: id for topic in described if (id := clients.topic_id_of(topic))}
        return cls(cluster_id=cluster_id, topic_prefix=settings.topic_prefix, topic_ids=topic_ids)

    def differences(self, other: LogIdentity) -> Iterator[str]:
        """What tells the logs apart, in words that follow "it holds events of". An unknown id is no difference."""
        if self.cluster_id != other.cluster_id:
            yield f"cluster {self.cluster_id}, and this is {other.cluster_id}"
        if self.topic_prefix != other.topic_prefix:
            yield f"topic_prefix {self.topic_prefix!r}, and this is {other.topic_prefix!r}"
        if self.cluster_id == other.cluster_id and self.topic_prefix == other.topic_prefix:
            shared = self.topic_ids.keys() & other.topic_ids.keys()
            renewed = [name for name in sorted(shared) if self.topic_ids[name] != other.topic_ids[name]]
            if renewed:
                yield f"topics {', '.join(renewed)} that were deleted and created again since"
