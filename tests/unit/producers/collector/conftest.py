"""What the tests of the tracker need: a browser, and a shop."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from anabranch.http import api_keys, key_file
from anabranch.http.key_file import KeyFile
from tests.support.chromium import Chromium, require_chromium, running_chromium
from tests.support.collector_server import CollectorServer
from tests.support.tracked_shop import TrackedShop


@pytest.fixture(scope="session")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    with running_chromium(require_chromium(), tmp_path_factory.mktemp("profile")) as browser:
        yield browser


@pytest.fixture
def shop(chromium: Chromium, tmp_path: Path) -> Iterator[TrackedShop]:
    path = tmp_path / "keys.json"
    text, key = api_keys.create("browser", ["events:write"])
    key_file.add(path, key)
    server = CollectorServer(KeyFile(path))
    with server.running():
        yield TrackedShop(chromium, server, text)
