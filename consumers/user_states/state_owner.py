"""Whose user states a partition of `user-state` holds: those of one consumer group, spread over so many partitions."""

from __future__ import annotations

from typing import NamedTuple

from kafka import TopicPartition

from anabranch.errors import AnabranchError
from anabranch.messages import StateMarker
from anabranch.settings import Settings


class StatesOfOthers(AnabranchError):
    """The saved user states are another ranker group's, or spread over another number of partitions."""


class StateOwner(NamedTuple):
    """What a marker says about its states besides how far they go."""

    group: str
    partitions: int

    @classmethod
    def from_settings(cls, settings: Settings) -> StateOwner:
        """The rankers that the settings describe."""
        return cls(settings.group("ranker"), settings.partitions)

    def owns(self, marker: StateMarker) -> bool:
        """Whether the marker is one that these rankers wrote."""
        return (marker.group, marker.partitions) == self

    def require(self, marker: StateMarker, source: TopicPartition) -> None:
        """Raise `StatesOfOthers` unless these rankers may go on from the states; a marker of an old version may be
        anybody's."""
        where = f"{source.topic}, partition {source.partition}"
        if marker.moving_to:
            raise StatesOfOthers(
                f"{where}: users are being moved to {marker.moving_to} partitions. "
                f"Run `anabranch topics repartition --partitions {marker.moving_to}` to its end"
            )
        if marker.group not in ("", self.group):
            raise StatesOfOthers(
                f"{where} has the user states of ranker group {marker.group}, which {self.group} would overwrite. Set "
                "ranker_group to that name, or give this group a topic_prefix of its own. If the other group is gone, "
                "you may also empty the topic: user states are then rebuilt from the events that are kept"
            )
        if marker.partitions not in (0, self.partitions):
            raise StatesOfOthers(
                f"{where}: users are spread over {marker.partitions} partitions and `partitions` is {self.partitions}, "
                f"so they would not find their states. Set partitions={marker.partitions}, and run `anabranch topics "
                f"repartition --partitions {self.partitions}`"
            )
