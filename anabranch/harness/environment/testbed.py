"""What chaos and benchmarks need before they begin: topics, a catalogue, releases, and processes that know of them."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterable
from contextlib import closing
from copy import copy
from itertools import islice
from pathlib import Path

import msgspec
from kafka.errors import RetriableError

from anabranch import release
from anabranch.errors import UsageError
from anabranch.harness.environment.cluster import Cluster
from anabranch.harness.environment.processes import Processes, ProcessFailed
from anabranch.kafka import clients, topics
from anabranch.kafka.topics import Topics
from anabranch.messages import Event, Item, ReleaseNotice
from anabranch.progress_bar import bar
from anabranch.settings import Settings
from models.retraining import topics_io as reshare_broker
from models.retraining.job import JobConfig, renew_neighbours
from producers import catalogue, completejourney
from producers.completejourney import Purchases
from producers.pace import Pace
from producers.replay import replay

HISTORY_WEEKS = 6
READY_S = 300.0
CLEARED = ("cluster", "releases", "reshare", "logs")
"""What an earlier run left in the data folder."""


class Bed:
    """A catalogue and a history of real purchases on the topics of a cluster, and what is to come."""

    def __init__(self, settings: Settings, processes: Processes, households: int, seed: int) -> None:
        self.settings = settings
        self.topics = Topics(settings)
        self.processes = processes
        purchases = completejourney.purchases(seed).of_households(households, seed)
        self.history: Purchases = purchases.in_weeks(1, HISTORY_WEEKS)
        self.ahead: Purchases = purchases.in_weeks(HISTORY_WEEKS + 1, 53)
        self.items: list[Item] = []

    def on(self, settings: Settings) -> Bed:
        """The same, on topics of other settings."""
        other = copy(self)
        other.settings, other.topics = settings, Topics(settings)
        return other

    def provision(self, events_ahead: int, items: int = 0) -> None:
        """Topics, the history, and the items of the history and of the next so many events; others up to `items`."""
        with closing(clients.admin(self.settings)) as admin:
            topics.provision(admin, self.settings)
        known = self.history.bought() | self.ahead.split(events_ahead)[0].bought()
        everything = completejourney.catalogue()
        self.items = [item for item in everything if item.item_id in known]
        others = (item for item in everything if item.item_id not in known)
        self.items += list(islice(others, max(0, items - len(self.items))))
        with closing(clients.producer(self.settings)) as producer:
            catalogue.publish(self.items, producer, self.topics.items)
        self.publish(self.history.events())

    def publish(self, events: Iterable[Event], pace: Pace | None = None) -> None:
        """Publish events as a producer would."""
        with closing(clients.producer(self.settings)) as producer:
            replay(events, producer, self.topics.events, pace or Pace())

    def releases(self, count: int, given: Path | None, seed: int) -> list[str]:
        """Names of so many releases: those given, in order of name, or made from the history. None is announced.

        The history's neighbours are published either way.
        """
        if given is None:
            for number in range(count):
                self.processes.start("reshare", "--once", "--seed", str(seed + number), on_terminal=True).wait()
        else:
            for folder in release.folders(given)[:count]:
                shutil.copytree(folder, self.settings.releases_dir / folder.name)
            renew_neighbours(self.settings, JobConfig(), bar)
        names = [folder.name for folder in release.folders(self.settings.releases_dir)]
        if len(names) != count:
            raise UsageError(f"{count} release folders are needed in {given}; there are {names}")
        return names

    def announce(self, name: str, parent: str | None = None) -> None:
        """Announce a release live."""
        folder = self.settings.releases_dir / name
        notice = ReleaseNotice(
            release=name,
            status="live",
            ts=reshare_broker.now_ms(),
            location=name,
            manifest_sha256=release.digest(folder / release.MANIFEST),
            parent=parent,
        )
        reshare_broker.announce(self.settings, notice)

    def wait(
        self,
        condition: Callable[[], bool],
        what: str,
        patience_s: float = READY_S,
        meanwhile: Callable[[], None] = lambda: None,
    ) -> None:
        """Wait for a condition. Raises `ProcessFailed` if it does not come, or a process ended badly."""
        deadline = time.monotonic() + patience_s
        while not _holds(condition):
            meanwhile()
            if time.monotonic() > deadline:
                raise ProcessFailed(f"waited {patience_s:.0f} s for {what}: see the logs in {self.processes.logs}")
            time.sleep(0.2)


def clear(data_dir: Path) -> None:
    """Remove what an earlier run left."""
    for name in CLEARED:
        shutil.rmtree(data_dir / name, ignore_errors=True)


def on_cluster(settings: Settings, cluster: Cluster, session_timeout_ms: int) -> Settings:
    """The settings for topics and processes on this cluster."""
    return msgspec.structs.replace(
        settings,
        bootstrap_servers=cluster.bootstrap_servers,
        replication_factor=min(3, len(cluster.nodes)),
        session_timeout_ms=session_timeout_ms,
    )


def environment(settings: Settings) -> dict[str, str]:
    """This process's environment, with what the settings say of where things are."""
    names = (
        "bootstrap_servers",
        "data_dir",
        "releases_dir",
        "partitions",
        "topic_prefix",
        "session_timeout_ms",
        "replication_factor",
        "max_users",
    )
    own = {f"ANABRANCH_{name.upper()}": str(getattr(settings, name)) for name in names}
    return os.environ | own


def _holds(condition: Callable[[], bool]) -> bool:
    """A broker that is not ready to say is one of which it does not hold yet."""
    try:
        return condition()
    except RetriableError:
        return False
