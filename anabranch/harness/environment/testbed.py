"""What chaos and benchmarks run against: topics, a catalogue, a purchase history, releases, and child processes."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
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
from anabranch.harness.environment.run_folders import replace_run_folders
from anabranch.kafka import clients, release_topic, topics
from anabranch.kafka.release_topic import read_release_notices
from anabranch.kafka.topics import Topics
from anabranch.messages import Event, Item, ReleaseNotice
from anabranch.progress_bar import bar
from anabranch.settings import Settings
from anabranch.settings_loader import PREFIX, as_text
from models.retraining import topics_io
from models.retraining.job import publish_co_visits
from models.retraining.run import JobConfig
from producers import catalogue, completejourney
from producers.completejourney import Purchases
from producers.pace import Pace
from producers.replay import replay

HISTORY_WEEKS = 6
"""Weeks of purchases before the first release is trained."""
WEEKS_PER_RELEASE = 1
"""Weeks of purchases between two releases. The gate uses a window of events once, so each release that goes through it
needs a week that no earlier one was judged on."""
WAIT_TIMEOUT_S = 300.0
POLL_INTERVAL_S = 0.2
RUN_FOLDERS = ("cluster", "releases", "reshare", "logs")
"""Folders of the data folder that belong to one run; `clear` removes them."""
ALL_ITEMS = {f"{PREFIX}NEIGHBOURS_SHARDS": "1", f"{PREFIX}NEIGHBOURS_SHARD": "0"}
CHILD_SETTINGS = (
    "bootstrap_servers",
    "data_dir",
    "releases_dir",
    "partitions",
    "topic_prefix",
    "session_timeout_ms",
    "replication_factor",
    "max_users",
    "placements",
    "live_neighbours",
)


class Testbed:
    """Real purchases on the topics of one cluster: those before the run (`history`), and those to stream (`ahead`).

    `release_count` releases are needed: there is a week of history for each one beyond the first.
    """

    def __init__(
        self, settings: Settings, processes: Processes, households: int, random_seed: int, release_count: int = 1
    ) -> None:
        self.settings = settings
        self.topics = Topics(settings)
        self.processes = processes
        purchases = completejourney.purchases(random_seed).of_households(households, random_seed)
        self._training_weeks = _training_weeks(release_count)
        last_week = self._training_weeks[-1][1]
        self.history: Purchases = purchases.in_weeks(1, last_week)
        self.ahead: Purchases = purchases.in_weeks(last_week + 1, 53)
        self.items: list[Item] = []

    def with_settings(self, settings: Settings) -> Testbed:
        """The same purchases and processes, on the topics of other settings."""
        other = copy(self)
        other.settings, other.topics = settings, Topics(settings)
        return other

    def provision(self, events_ahead: int, item_count: int = 0) -> None:
        """Create the topics and publish the catalogue.

        It has every item of the history and of the next `events_ahead` events, and more up to `item_count`.
        """
        with closing(clients.admin(self.settings)) as admin:
            topics.provision(admin, self.settings)
        bought = self.history.bought() | self.ahead.split(events_ahead)[0].bought()
        every_item = completejourney.catalogue()
        self.items = [item for item in every_item if item.item_id in bought]
        others = (item for item in every_item if item.item_id not in bought)
        self.items += list(islice(others, max(0, item_count - len(self.items))))
        with closing(clients.producer(self.settings)) as producer:
            catalogue.publish(self.items, producer, self.topics.items)

    def publish(self, events: Iterable[Event], pace: Pace | None = None) -> None:
        """Publish events as a producer would."""
        with closing(clients.producer(self.settings)) as producer:
            replay(events, producer, self.topics.events, pace or Pace())

    def prepare_releases(self, folder: Path | None, random_seed: int) -> list[str]:
        """Publish the history, and have a release for each of its parts. Returns their names; none of them is live.

        With a `folder`, its first releases are copied, in order of name. Without one, each part of the history is
        published and a release is trained on all parts so far, as `anabranch reshare --once` does. The co-visit table
        is published either way. Raises `UsageError` if the folder has too few releases.
        """
        if folder is None:
            for index, weeks in enumerate(self._training_weeks):
                self.publish(self.history.in_weeks(*weeks).events())
                self._train_release(random_seed + index)
        else:
            self.publish(self.history.events())
            for source in _trained_releases(folder)[: len(self._training_weeks)]:
                shutil.copytree(source, self.settings.releases_dir / source.name)
            publish_co_visits(self.settings, JobConfig(), bar)
        names = [path.name for path in _trained_releases(self.settings.releases_dir)]
        if len(names) != len(self._training_weeks):
            raise UsageError(f"{folder} must hold {len(self._training_weeks)} releases; it holds {names}")
        return names

    def announce(self, name: str, parent: str | None = None) -> None:
        """Announce a release as live."""
        folder = self.settings.releases_dir / name
        notice = ReleaseNotice(
            release=name,
            status="live",
            ts=topics_io.now_ms(),
            location=name,
            manifest_sha256=release.digest(folder / release.MANIFEST),
            parent=parent,
        )
        release_topic.announce(self.settings, notice)

    def wait_until(
        self,
        condition: Callable[[], bool],
        description: str,
        timeout_s: float = WAIT_TIMEOUT_S,
        on_poll: Callable[[], None] = lambda: None,
    ) -> None:
        """See `wait_until`."""
        wait_until(condition, f"{description}; logs in {self.processes.logs}", timeout_s, on_poll)

    def _train_release(self, random_seed: int) -> None:
        """Train a release on the events so far, and withdraw it: the run decides when it goes live.

        The bootstrap release that the job made before it is withdrawn too.
        """
        self.processes.start("reshare", "--once", "--random-seed", str(random_seed), on_terminal=True).wait()
        for notice in read_release_notices(self.settings).newest.values():
            withdrawn = msgspec.structs.replace(notice, status="retired", ts=topics_io.now_ms())
            release_topic.announce(self.settings, withdrawn)


def wait_until(
    condition: Callable[[], bool],
    description: str,
    timeout_s: float = WAIT_TIMEOUT_S,
    on_poll: Callable[[], None] = lambda: None,
) -> None:
    """Poll a condition until it holds, calling `on_poll` each time. Raises `ProcessFailed` after `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    while not _holds(condition):
        on_poll()
        if time.monotonic() > deadline:
            raise ProcessFailed(f"timed out after {timeout_s:.0f} s: {description}")
        time.sleep(POLL_INTERVAL_S)


def _trained_releases(folder: Path) -> list[Path]:
    """The releases in a folder, in order of name, but for a bootstrap release."""
    return [path for path in release.folders(folder) if not release.open_release(path).manifest.is_bootstrap]


def clear(data_dir: Path) -> None:
    """Remove the folders of an earlier run. The text vectors stay: they depend on the texts alone.

    Raises `UsageError` if there are releases that no such run has made.
    """
    replace_run_folders(data_dir, RUN_FOLDERS)


def cluster_settings(settings: Settings, cluster: Cluster, session_timeout_ms: int) -> Settings:
    """The settings for topics and processes on this cluster.

    The retraining job publishes the co-visit table, so that it stays as it is while events stream.
    """
    return msgspec.structs.replace(
        settings,
        live_neighbours=False,
        bootstrap_servers=cluster.bootstrap_servers,
        replication_factor=min(3, len(cluster.nodes)),
        session_timeout_ms=session_timeout_ms,
    )


def child_environment(settings: Settings, names: Sequence[str] = CHILD_SETTINGS) -> Mapping[str, str]:
    """This process's environment, with the named settings as `ANABRANCH_*` variables, unless they are None.

    A neighbours job that is started with it has all items, unless the named settings say otherwise.
    """
    values = {name: getattr(settings, name) for name in names}
    named = {f"{PREFIX}{name.upper()}": as_text(value) for name, value in values.items() if value is not None}
    return os.environ | ALL_ITEMS | named


def _training_weeks(release_count: int) -> list[tuple[int, int]]:
    """First and last week of each part of the history: a release is trained after each."""
    starts = range(HISTORY_WEEKS + 1, HISTORY_WEEKS + 1 + (release_count - 1) * WEEKS_PER_RELEASE, WEEKS_PER_RELEASE)
    return [(1, HISTORY_WEEKS), *((start, start + WEEKS_PER_RELEASE - 1) for start in starts)]


def _holds(condition: Callable[[], bool]) -> bool:
    """False where the broker cannot answer yet."""
    try:
        return condition()
    except RetriableError:
        return False
