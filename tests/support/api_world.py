"""The API's ASGI application on a replica in memory."""

from __future__ import annotations

from pathlib import Path

from anabranch.http.messages.serving import ItemConditions, RecentEvent
from consumers.api.answers.queries import (
    BoughtTogetherQuery,
    RankQuery,
    SimilarQuery,
    SlateQuery,
    TrendingQuery,
    UserQuery,
)
from tests.support.ranker_world import CATALOGUE, RankerWorld, purchases
from tests.support.replica_world import ReplicaProcess

ORIGIN = "https://shop.example"


def warm_replica(folder: Path) -> ReplicaProcess:
    """A replica that knows some users, and whose loops are compiled: that takes longer than a client waits."""
    world = RankerWorld(folder)
    world.rank(*purchases(40))
    replica = ReplicaProcess(world)
    replica.settle()
    events, few = (RecentEvent(item_id=CATALOGUE[4]),), ItemConditions(exclude=(CATALOGUE[5],))
    replica.answers(
        [
            SlateQuery("u1", "for_you", 5),
            SlateQuery("nobody", "for_you", 5, conditions=few),
            SlateQuery(None, "for_you", 5, events=events),
            RankQuery("u1", tuple(CATALOGUE[:3]), events),
            SimilarQuery(CATALOGUE[0], 5, few),
            BoughtTogetherQuery(CATALOGUE[0], 5, few),
            TrendingQuery(5, few),
            UserQuery("u1"),
        ]
    )
    return replica
