"""`anabranch reshare` as a process: it ends when it is told to, and survives a full disk."""

from __future__ import annotations

import resource
import time
from pathlib import Path

import pytest

from anabranch import release
from anabranch.kafka.release_topic import read_release_notices
from anabranch.kafka.topics import Topics
from anabranch.messages import Event, Item
from anabranch.settings import Settings
from models.retraining.workspace import open_workspace
from tests.kafka.world import ITEMS, TRAINING_PATIENCE_S, Process, World, await_true
from tests.support.text_models import write_text_model

pytestmark = pytest.mark.timeout(900)

SHUTDOWN_S = 10.0
EVERY_HOURS = "0.01"
"""36 seconds, the least that the command takes."""


@pytest.fixture(scope="module")
def text_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_text_model(tmp_path_factory.mktemp("text"), ["thing", *ITEMS])


@pytest.fixture
def shop(settings: Settings, topics: Topics) -> Settings:
    """A catalogue, and three hours of views by users who come back."""
    world = World(settings)
    world.publish_items([Item(item_id=item, title=f"thing {item}") for item in ITEMS])
    world.publish(
        [
            Event(
                event_id=f"e{number}",
                user_id=f"u{number % 60}",
                type="view",
                ts=1_500_000_000_000 + number * 20_000,
                item_id=ITEMS[number * 7 % len(ITEMS)],
            )
            for number in range(540)
        ]
    )
    return settings


def reshare(settings: Settings, text_model: Path, *arguments: str) -> Process:
    windows = ("--kind", "sessions", "--order-days", "0.02", "--gate-days", "0.02")
    return Process(settings, "reshare", *windows, "--text-model", str(text_model), *arguments)


def limit(process: Process, kind: int, soft: int) -> None:
    """Set the soft limit of a running process; -1: none."""
    _, hard = resource.prlimit(process.pid, kind)
    resource.prlimit(process.pid, kind, (soft, hard))


def test_sigterm_in_the_middle_of_training_ends_the_job_and_leaves_no_half_release(
    shop: Settings, text_model: Path
) -> None:
    with reshare(shop, text_model, "--every", "24", "--search-seconds", "120") as job:
        job.await_log("Text vectors: finished", TRAINING_PATIENCE_S)
        assert [path.name for path in sorted(shop.releases_dir.glob("r*"))] == ["r0001", "r0002"]
        started = time.monotonic()
        assert job.terminate() == 0, job.log.read_text()
        assert time.monotonic() - started < SHUTDOWN_S
        assert "Traceback" not in job.log.read_text()

    assert [path.name for path in shop.releases_dir.glob("r*")] == ["r0001"]
    assert list(read_release_notices(shop).newest) == ["r0001"]
    with open_workspace(shop) as workspace:
        assert len(workspace.store.log()) == 540


def test_a_full_disk_fails_one_run_in_one_line_and_the_next_one_with_room_succeeds(
    shop: Settings, text_model: Path
) -> None:
    with reshare(shop, text_model, "--every", EVERY_HOURS) as job:
        limit(job, resource.RLIMIT_FSIZE, 8192)
        line = job.await_log("the run failed", TRAINING_PATIENCE_S)
        assert "the disk is full" in line and "make room" in line and "MiB free for" in line
        assert "tries again in 36 seconds" in line
        assert "Traceback" not in job.log.read_text()
        assert not list(shop.releases_dir.glob("r*"))
        limit(job, resource.RLIMIT_FSIZE, resource.RLIM_INFINITY)
        job.await_log("Read the catalogue: finished", TRAINING_PATIENCE_S)  # by the next run
        await_true(lambda: read_release_notices(shop).live is not None, "a release", job.log, TRAINING_PATIENCE_S)
    live = read_release_notices(shop).live
    assert live is not None
    release.open_announced(shop.releases_dir, live).verify()


def test_a_single_run_without_room_ends_with_the_remedy(shop: Settings, text_model: Path) -> None:
    with reshare(shop, text_model, "--once") as job:
        limit(job, resource.RLIMIT_FSIZE, 8192)
        await_true(lambda: job.ended, "the end", job.log, TRAINING_PATIENCE_S)
        assert job.wait() == 1
        lines = job.log.read_text().splitlines()
    assert lines[-1].startswith("anabranch: the disk is full, or a quota is used up (")
    assert "Traceback" not in "".join(lines)
    assert not list(shop.releases_dir.glob("r*"))
