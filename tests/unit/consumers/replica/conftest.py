from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.ranker_world import RankerWorld


@pytest.fixture
def world(tmp_path: Path) -> RankerWorld:
    return RankerWorld(tmp_path)
