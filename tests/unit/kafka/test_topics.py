from __future__ import annotations

from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anabranch.kafka import topics
from anabranch.kafka.topics import TopicName, Topics
from anabranch.settings import Settings

IDS = st.text(min_size=1, max_size=30).filter(lambda text: topics.SEPARATOR not in text)


def test_every_topic_of_the_design_is_there_under_the_prefix() -> None:
    names = {topic.name for topic in Topics(Settings(topic_prefix="shop.")).all}
    assert names == {f"shop.{name}" for name in get_args(TopicName)}


def test_topics_that_move_together_have_equally_many_partitions() -> None:
    partitions = {topic.name: topic.partitions for topic in Topics(Settings(partitions=7)).all}
    assert {partitions[name] for name in ("events", "rankings", "user-state", "feedback")} == {7}
    assert partitions["releases"] == 1


def test_latency_is_measured_from_append_to_append() -> None:
    configs = {topic.name: topic.configs for topic in Topics(Settings()).all}
    for name in ("events", "rankings"):
        assert configs[name]["message.timestamp.type"] == "LogAppendTime"


def test_what_an_event_gives_rise_to_may_be_larger_than_the_event() -> None:
    sizes = {topic.name: int(topic.configs["max.message.bytes"]) for topic in Topics(Settings()).all}
    assert min(sizes["feedback"], sizes["events.dead-letter"], sizes["rankings"]) > sizes["events"]


@given(IDS, IDS)
def test_the_key_of_a_vector_tells_item_and_release(item_id: str, release: str) -> None:
    assert topics.split_vector_key(topics.vector_key(item_id, release)) == (item_id, release)


@given(IDS)
def test_the_key_of_a_coverage_has_no_item(release: str) -> None:
    assert topics.split_vector_key(topics.completion_key(release)) == ("", release)


def test_a_separator_in_an_old_item_id_does_not_hide_the_release() -> None:
    assert topics.split_vector_key(topics.vector_key("a\x1fb", "r1")) == ("a\x1fb", "r1")


def test_a_key_without_a_release_is_no_vectors_key() -> None:
    with pytest.raises(ValueError, match="not the key"):
        topics.split_vector_key(b"item")
