"""`/ready` and `/health` of real processes on a real broker, asked as the compose file asks."""

from __future__ import annotations

import signal
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml

from anabranch.kafka.topics import Topics
from anabranch.messages import Item
from anabranch.settings import Settings
from models.retraining.run_history import history_path
from tests.kafka.world import ITEMS, Process, Scrape, World, await_true, purchases

COMPOSE = Path(__file__).parents[2] / "deploy/compose.yaml"


@pytest.fixture
def world(settings: Settings, topics: Topics) -> World:
    return World(settings)


class Endpoints:
    """A process's answers."""

    def __init__(self, process: Process) -> None:
        self._url = process.await_log("metrics at http").split("metrics at ")[1].removesuffix("/metrics")

    def get(self, path: str) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(f"{self._url}{path}") as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def passes_health_check(self, service: str) -> bool:
        """Run the health check of a service in the compose file, on this process's port."""
        health_check = yaml.safe_load(COMPOSE.read_text())["services"][service]["healthcheck"]["test"]
        assert health_check[:3] == ["CMD", "python", "-c"]
        code = health_check[3].replace("127.0.0.1:9100", urlsplit(self._url).netloc)
        return subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0


def test_the_health_check_of_the_compose_file_passes_once_a_process_is_ready(world: World) -> None:
    world.publish(purchases(50))
    with Process(world.settings, "rank", "--start", "latest", "--metrics-port", "0") as ranker:
        asked = Endpoints(ranker)
        reason = f"waiting for a live release on {world.topics.releases}\n"
        await_true(lambda: asked.get("/ready") == (503, reason), "the reason", ranker.log)
        assert asked.get("/health") == (200, "ok\n")
        assert not asked.passes_health_check("ranker-1")

        world.announce("r1")
        reason = "waiting for the indexer to publish all item vectors of release r1\n"
        await_true(lambda: asked.get("/ready") == (503, reason), "the next reason", ranker.log)
        world.vectorise("r1")
        await_true(lambda: asked.get("/ready") == (200, "ok\n"), "a ready ranker", ranker.log)
        assert asked.passes_health_check("ranker-1")
        assert "restored partition" in ranker.log.read_text(), "ready means restored"
        assert Scrape.of(ranker).value("anabranch_ready") == 1


def test_a_ranker_that_falls_behind_is_not_ready_until_it_has_caught_up(world: World) -> None:
    world.go_live("r1")
    arguments = ("--set", "ready_max_lag=10", "--set", "batch_max=1", "rank", "--start", "earliest")
    with Process(world.settings, *arguments, "--metrics-port", "0") as ranker:
        asked = Endpoints(ranker)
        await_true(lambda: asked.get("/ready")[0] == 200, "a ready ranker", ranker.log)
        ranker.signal(signal.SIGSTOP)
        world.publish(purchases(600))
        ranker.signal(signal.SIGCONT)
        await_true(lambda: "behind: more than ready_max_lag, 10" in asked.get("/ready")[1], "the reason", ranker.log)
        world.await_rankings(600)
        await_true(lambda: asked.get("/ready")[0] == 200, "a ready ranker again", ranker.log)


def test_the_lag_of_a_partition_that_moved_is_exported_by_its_new_owner_alone(world: World) -> None:
    world.go_live("r1")

    def owned(scrape: Scrape) -> set[str]:
        return {dict(labels)["partition"] for name, labels in scrape() if name == "anabranch_consumer_lag"}

    with Process(world.settings, "rank", "--start", "earliest", "--metrics-port", "0") as first:
        of_first = Scrape.of(first)
        await_true(lambda: owned(of_first) == {"0", "1"}, "both partitions", first.log)
        with Process(world.settings, "rank", "--metrics-port", "0") as second:
            of_second = Scrape.of(second)
            await_true(
                lambda: len(owned(of_first)) == 1 == len(owned(of_second)) and owned(of_first) != owned(of_second),
                "a partition for each",
                first.log,
            )


def test_an_indexer_is_ready_once_every_item_has_its_vector(world: World) -> None:
    world.publish_items([Item(item_id=item_id, title=f"title of {item_id}") for item_id in ITEMS])
    with Process(world.settings, "index", "--metrics-port", "0") as indexer:
        asked = Endpoints(indexer)
        reason = f"waiting for a live release on {world.topics.releases}\n"
        await_true(lambda: asked.get("/ready") == (503, reason), "the reason", indexer.log)
        assert not asked.passes_health_check("indexer")
        world.announce("r1")
        await_true(lambda: asked.get("/ready") == (200, "ok\n"), "a ready indexer", indexer.log)
        assert asked.passes_health_check("indexer")
        assert f"indexing of release r1 is complete: {len(ITEMS)} items" in indexer.log.read_text()


def test_a_retraining_run_that_is_killed_is_shown_as_failed_by_the_next_process(world: World) -> None:
    world.announce("r1")  # else the run makes a bootstrap release first, which takes a while
    history = history_path(world.settings)
    with Process(world.settings, "reshare", "--every", "1", "--metrics-port", "0") as killed:
        await_true(lambda: history.exists() and b'"begun_s":null' not in history.read_bytes(), "a run", killed.log)
        killed.kill()
    with Process(world.settings, "reshare", "--every", "1", "--metrics-port", "0") as reshare:
        asked, scrape = Endpoints(reshare), Scrape.of(reshare)
        reshare.await_log("the last run did not end")
        await_true(lambda: asked.get("/ready") == (200, "ok\n"), "a run that ends", reshare.log)
        name = "anabranch_reshare_timestamp_seconds"
        assert 0 < scrape.value(name, outcome="failed") <= scrape.value(name, outcome="waiting")
        assert scrape.value("anabranch_reshare_runs_total", outcome="failed") == 1
