from __future__ import annotations

import pytest

from anabranch.co_visit.shard import WHOLE, Shard
from anabranch.harness.environment.testbed import child_environment
from anabranch.harness.standalone import _shared_settings
from anabranch.settings import Settings
from anabranch.settings_loader import load


def test_the_one_neighbours_job_of_a_demo_or_of_standalone_has_all_items(monkeypatch: pytest.MonkeyPatch) -> None:
    """Their settings may be those of an installation whose jobs share the items."""
    monkeypatch.setenv("ANABRANCH_NEIGHBOURS_SHARDS", "3")
    settings = Settings(neighbours_shards=3, neighbours_shard=1)
    for environment in (child_environment(settings), child_environment(settings, _shared_settings())):
        assert Shard.from_settings(load(None, environment)) == WHOLE
