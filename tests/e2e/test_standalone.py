"""`anabranch standalone`: from nothing to rankings with files alone, and an end that leaves nothing running."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from anabranch import messages
from anabranch.kafka import clients
from anabranch.kafka.topics import Topics
from anabranch.settings import Settings
from tests.e2e.shop import ROOT, run_python

PATIENCE_S = 240.0
TITLES = ("running shoe", "trail shoe", "sandal", "garden hose", "garden rake", "garden shears")
pytestmark = pytest.mark.timeout(600)


def test_items_and_events_from_files_are_ranked_and_ctrl_c_ends_every_process(tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ANABRANCH_")}
    environment |= {"PYTHONPATH": str(ROOT), "ANABRANCH_DATA_DIR": str(tmp_path / "data"), "COLUMNS": "160"}
    (tmp_path / "items.csv").write_text(
        "item_id,title\n" + "".join(f"i{number},{title}\n" for number, title in enumerate(TITLES))
    )
    (tmp_path / "events.csv").write_text(
        "user_id,item_id,event,timestamp\n"
        + "".join(f"u{n % 3},i{n % 6},view,{1_700_000_000 + n}\n" for n in range(12))
    )
    output = tmp_path / "output"
    with output.open("wb") as file:
        standalone = subprocess.Popen(
            [sys.executable, "-m", "anabranch", "standalone"], env=environment, stdout=file, stderr=subprocess.STDOUT
        )
    try:
        await_true(lambda: "in another terminal" in output.read_text(), standalone, output)
        address = re.search(r"Kafka at (\S+)", output.read_text())
        assert address is not None
        environment["ANABRANCH_BOOTSTRAP_SERVERS"] = address[1]
        run_python("-m", "anabranch", "catalogue", str(tmp_path / "items.csv"), environment=environment)
        await_true(lambda: "ranked by release r0001" in output.read_text(), standalone, output)
        run_python("-m", "anabranch", "replay", str(tmp_path / "events.csv"), environment=environment)

        settings = Settings(bootstrap_servers=address[1])
        await_true(lambda: len(rankings(settings)) == 12, standalone, output)
        assert all(ranking.slate for ranking in rankings(settings))
    finally:
        started = psutil.Process(standalone.pid).children(recursive=True)
        standalone.send_signal(signal.SIGINT)
    assert standalone.wait(60) == 0, output.read_text()
    assert not [process for process in started if process.is_running() and process.status() != psutil.STATUS_ZOMBIE]


def rankings(settings: Settings) -> list[messages.Ranking]:
    records = clients.read_to_end(settings, [Topics(settings).rankings])
    return [messages.rankings.decode(record.value) for record in records]


def await_true(condition: Callable[[], bool], process: subprocess.Popen[bytes], output: Path) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert process.poll() is None and time.monotonic() < deadline, output.read_text()
        time.sleep(0.2)
