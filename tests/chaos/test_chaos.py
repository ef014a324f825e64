"""A short chaos run: what `anabranch chaos` proves at length."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from anabranch.harness.chaos.verify import MUST_BE_ZERO
from producers import completejourney
from tests.kafka.marks import needs_kafka
from tests.support.releases import write_release

pytestmark = [needs_kafka, pytest.mark.timeout(400)]


def test_kills_pauses_and_a_swap_lose_nothing_double_nothing_and_bend_no_vector(tmp_path: Path) -> None:
    # A vector of its own for every item: of thirty that read alike, which ones end among the nearest hundred depends on
    # the order in which a process heard of them, and the ledger compares slates.
    catalogue = [item.item_id for item in completejourney.catalogue()]
    for seed, name in enumerate(("r1", "r2")):
        write_release(tmp_path / "releases" / name, name, catalogue, seed=seed)
    target = tmp_path / "chaos.json"
    sizes = {"--minutes": 0.6, "--kills": 5, "--seed": 7, "--rankers": 2, "--brokers": 1, "--rate": 150}
    options = [str(part) for pair in sizes.items() for part in pair]
    places = ["--releases", str(tmp_path / "releases"), "--data-dir", str(tmp_path / "run"), "--json", str(target)]
    command = [sys.executable, "-m", "anabranch", "chaos", "--households", "60", *options, *places]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"COLUMNS": "160"}, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    told = msgspec.json.decode(target.read_bytes())
    found, happened = told["found"], told["happened"]
    assert told["adds_up"]
    assert {name: found[name] for name in MUST_BE_ZERO} == dict.fromkeys(MUST_BE_ZERO, 0)
    assert sum(happened["kills"].values()) == 5 and happened["kills"]["brokers"] > 0
    assert happened["pauses"] == 1 and happened["swaps"] == 1
    assert found["accepted"] == found["rankings"] == found["feedback"] > 3_000
    assert found["ignored"] > 0 and found["rejected"] == found["dead_letters"] > 0
    assert set(found["by_release"]) == {"r1", "r2"}
    assert len(happened["shutdown_s"]) == 2
