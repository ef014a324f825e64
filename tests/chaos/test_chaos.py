"""A short chaos run by its default path: two releases are trained, and swapped under kills and pauses."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from anabranch.harness.chaos.verify import MUST_BE_ZERO

pytestmark = pytest.mark.timeout(1800)


def test_kills_pauses_and_a_swap_lose_nothing_double_nothing_and_bend_no_vector(tmp_path: Path) -> None:
    target = tmp_path / "chaos.json"
    sizes = {"--minutes": 0.6, "--kills": 5, "--random-seed": 7, "--rankers": 2, "--brokers": 1, "--rate": 80}
    options = [str(part) for pair in sizes.items() for part in pair]
    files = ["--data-dir", str(tmp_path / "run"), "--json", str(target)]
    command = [sys.executable, "-m", "anabranch", "chaos", "--households", "120", *options, *files]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"COLUMNS": "160"}, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    written = msgspec.json.decode(target.read_bytes())
    findings, chaos_run = written["found"], written["happened"]
    assert written["adds_up"]
    assert {name: findings[name] for name in MUST_BE_ZERO} == dict.fromkeys(MUST_BE_ZERO, 0)
    assert sum(chaos_run["kills"].values()) == 5 and chaos_run["kills"]["brokers"] > 0
    assert chaos_run["pauses"] == 1 and chaos_run["swaps"] == 1
    assert findings["accepted"] == findings["rankings"] == findings["feedback"] > 1_500
    assert findings["ignored"] > 0 and findings["rejected"] == findings["dead_letters"] > 0
    assert set(findings["by_release"]) == {"r0002", "r0003"}, "r0001 is the bootstrap release, withdrawn"
    assert len(chaos_run["shutdown_s"]) == 2
    losses = written["log_losses"]
    assert {name: losses["findings"][name] for name in MUST_BE_ZERO} == dict.fromkeys(MUST_BE_ZERO, 0)
    assert losses["deleted"] == losses["counted"] > 100
    assert losses["recreated"] == losses["breaks"] == 4, "every partition of the new topic"
    assert losses["findings"]["accepted"] > findings["accepted"]
