from __future__ import annotations

from typing import get_args

import msgspec
import pytest
from kafka.admin import KafkaAdminClient

from anabranch.errors import TopicsDiffer
from anabranch.kafka.topics import TopicName, Topics, check, provision, require
from anabranch.settings import Settings


def test_provisioning_creates_every_topic_and_the_second_time_none(admin: KafkaAdminClient, settings: Settings) -> None:
    assert len(provision(admin, settings)) == len(get_args(TopicName))
    assert provision(admin, settings) == []
    assert check(admin, settings) == []


def test_every_missing_topic_is_told_with_the_remedy(admin: KafkaAdminClient, settings: Settings) -> None:
    differences = check(admin, settings)
    assert len(differences) == len(get_args(TopicName))
    assert all("anabranch topics provision" in line for line in differences)


def test_a_difference_names_topic_and_setting(topics: Topics, admin: KafkaAdminClient, settings: Settings) -> None:
    other = msgspec.structs.replace(settings, partitions=3, retention_days=1.0)
    with pytest.raises(TopicsDiffer) as raised:
        require(admin, other)
    differences = "\n".join(raised.value.differences)
    assert f"{topics.events} has 2 partitions, not 3" in differences
    assert f"{topics.feedback} has retention.ms=" in differences


def test_retention_is_no_reason_not_to_start(topics: Topics, admin: KafkaAdminClient, settings: Settings) -> None:
    other = msgspec.structs.replace(settings, retention_days=1.0)
    require(admin, other, configs=False)
