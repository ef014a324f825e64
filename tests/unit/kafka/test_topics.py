from __future__ import annotations

from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anabranch.kafka import topics
from anabranch.kafka.partitions import partition_of
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


def test_topics_that_are_read_as_tables_keep_their_number_of_partitions() -> None:
    partitions = {topic.name: topic.partitions for topic in Topics(Settings(partitions=8, item_partitions=4)).all}
    assert {name for name, count in partitions.items() if count == 8} == set(topics.KEYED_BY_USER)
    assert {name for name, count in partitions.items() if count == 4} == set(topics.TABLES)
    assert set(partitions) == {*topics.KEYED_BY_USER, *topics.TABLES, *topics.ONE_PARTITION}


@pytest.mark.parametrize(
    ("key", "murmur2"),
    [("21", -973932308), ("foobar", -790332482), ("a-little-bit-long-string", -985981536), ("abc", 479470107)],
)
def test_a_key_is_where_the_default_partitioner_of_kafkas_producers_puts_it(key: str, murmur2: int) -> None:
    """The hashes are those of Apache Kafka's own test, UtilsTest.testMurmur2."""
    for count in (1, 2, 3, 64):
        assert partition_of(topics.key(key), count) == (murmur2 & 0x7FFFFFFF) % count
