from __future__ import annotations

import pytest

from anabranch.kafka.log_identity import LogIdentity


def identity(cluster: str = "c1", prefix: str = "shop.", **topic_ids: str) -> LogIdentity:
    return LogIdentity(
        cluster_id=cluster, topic_prefix=prefix, topic_ids=topic_ids or {"events": "e1", "feedback": "f1"}
    )


@pytest.mark.parametrize(
    ("other", "differences"),
    [
        (identity(), []),
        (identity(cluster="c2", events="e2"), ["cluster c1, and this is c2"]),
        (identity(prefix="b."), ["topic_prefix 'shop.', and this is 'b.'"]),
        (identity(events="e1", feedback="f2"), ["topics feedback that were deleted and created again since"]),
        (identity(events="e1"), []),
    ],
    ids=["the same", "another cluster", "another prefix", "a topic created again", "a topic whose id is not known"],
)
def test_logs_are_told_apart_by_cluster_prefix_and_topic_ids(other: LogIdentity, differences: list[str]) -> None:
    assert list(identity().differences(other)) == differences
