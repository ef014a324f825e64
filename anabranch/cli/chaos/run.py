"""A chaos run from top to bottom: cluster, releases, rankers, stream, faults, and then the ledger."""

from __future__ import annotations

import os
import shutil
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from kafka.errors import RetriableError
from msgspec import Struct
from rich.console import Console

from anabranch import clients, release, topics
from anabranch.cli.chaos.faults import Fault, draw
from anabranch.cli.chaos.fleet import Fleet
from anabranch.cli.chaos.stream import Stream, messages
from anabranch.cli.chaos.verify import Findings, marked, verify
from anabranch.cli.offsets import committed, ends, lag
from anabranch.cli.processes import Processes, ProcessFailed
from anabranch.cli.progress import bar
from anabranch.cluster import Cluster, start_cluster
from anabranch.errors import UsageError
from anabranch.messages import Item, ReleaseNotice
from anabranch.settings import Settings
from anabranch.topics import Topics
from models.reshare import broker as reshare_broker
from producers import catalogue, completejourney
from producers.completejourney import Purchases
from producers.replay import replay

HISTORY_WEEKS = 6
SESSION_TIMEOUT_S = 6.0
SWAP_AT = 0.5
"""Share of the run after which the second release goes live."""
TICK_S = 0.05
SETTLE_S = 300.0
"""How long the rankers may take to catch up once nothing goes wrong any more."""
READY_S = 300.0
CLEARED = ("cluster", "releases", "reshare", "logs")


@dataclass(frozen=True)
class Options:
    """What the command line asks for."""

    minutes: float
    kills: int
    seed: int
    rankers: int
    brokers: int
    per_second: float
    households: int
    releases: Path | None
    """A folder of two release folders to serve, in order of name; None: two are made from the history."""


class Happened(Struct, frozen=True, kw_only=True):
    """What a run did to the processes."""

    seed: int
    minutes: float
    rankers: int
    brokers: int
    kills: dict[str, int]
    """By whom: rankers, brokers."""
    pauses: int
    swaps: int
    rankers_ended: list[int]
    """Exit codes of rankers that ended by themselves and were started again."""
    stream_failures: int
    shutdown_s: list[float]
    """How long each ranker took to end on SIGTERM."""
    catch_up_s: float
    """From the last fault to no lag."""
    seconds: float


def run(options: Options, settings: Settings, console: Console) -> tuple[Happened, Findings]:
    """Do it all in `settings.data_dir`; every process is stopped at the end. Raises `ProcessFailed`."""
    for name in CLEARED:
        shutil.rmtree(settings.data_dir / name, ignore_errors=True)
    with start_cluster(options.brokers, settings.data_dir / "cluster") as cluster:
        settings = msgspec.structs.replace(
            settings,
            bootstrap_servers=cluster.bootstrap_servers,
            replication_factor=min(3, options.brokers),
            session_timeout_ms=int(SESSION_TIMEOUT_S * 1000),
        )
        console.print(f"Apache Kafka, {options.brokers} node(s), at {cluster.bootstrap_servers}", highlight=False)
        with Processes(_environment(settings), settings.data_dir / "logs") as processes:
            return Chaos(options, settings, console, cluster, processes).play()


class Chaos:
    """The steps, in the order in which `play` takes them."""

    def __init__(
        self, options: Options, settings: Settings, console: Console, cluster: Cluster, processes: Processes
    ) -> None:
        self._options = options
        self._settings = settings
        self._topics = Topics(settings)
        self._console = console
        self._cluster = cluster
        self._processes = processes
        self._down: dict[int, float] = {}
        """When each dead broker starts again."""
        self._done: Counter[str] = Counter()

    def play(self) -> tuple[Happened, Findings]:
        """All of it."""
        began = time.monotonic()
        history, ahead, items = self._load()
        self._provision(items)
        with closing(clients.producer(self._settings)) as producer:
            replay(history.events(), producer, self._topics.events)
        first, second = self._releases()
        start = ends(self._settings, self._topics.events)
        self._announce(first)
        self._processes.start("index")
        fleet = Fleet.of(self._processes, self._options.rankers, "rank", "--start", "latest")
        self._await(lambda: committed(self._settings) == start, "the rankers to begin", READY_S)
        titles = {item.item_id: item.title for item in items}
        stream = Stream(
            self._settings,
            self._topics.events,
            messages(ahead, titles, self._options.seed),
            self._options.per_second,
        )
        stream.start()
        self._go_wrong(fleet, stream, second)
        caught_up, shutdown = self._settle(fleet, stream)
        self._console.print("reading the topics back", highlight=False)
        findings = verify(self._settings, start)
        happened = Happened(
            seed=self._options.seed,
            minutes=self._options.minutes,
            rankers=self._options.rankers,
            brokers=self._options.brokers,
            kills={"rankers": self._done["kill ranker"], "brokers": self._done["kill broker"]},
            pauses=self._done["pause ranker"],
            swaps=self._done["swap"],
            rankers_ended=fleet.ended,
            stream_failures=stream.failures,
            shutdown_s=[round(seconds, 2) for seconds in shutdown],
            catch_up_s=round(caught_up, 1),
            seconds=round(time.monotonic() - began, 1),
        )
        return happened, findings

    def _load(self) -> tuple[Purchases, Purchases, list[Item]]:
        purchases = completejourney.purchases(self._options.seed)
        purchases = purchases.of_households(self._options.households, self._options.seed)
        history, ahead = purchases.in_weeks(1, HISTORY_WEEKS), purchases.in_weeks(HISTORY_WEEKS + 1, 53)
        wanted = int(self._options.minutes * 60 * self._options.per_second)
        known = history.bought() | ahead.split(wanted)[0].bought()
        return history, ahead, [item for item in completejourney.catalogue() if item.item_id in known]

    def _provision(self, items: list[Item]) -> None:
        with closing(clients.admin(self._settings)) as admin:
            topics.provision(admin, self._settings)
        with closing(clients.producer(self._settings)) as producer:
            catalogue.publish(items, producer, self._topics.items)

    def _releases(self) -> tuple[str, str]:
        """Names of the two that are to serve, their folders in place."""
        given = self._options.releases
        if given is None:
            for seed in (self._options.seed, self._options.seed + 1):
                self._processes.start("reshare", "--once", "--seed", str(seed), on_terminal=True).wait()
        else:
            for folder in release.folders(given)[:2]:
                shutil.copytree(folder, self._settings.releases_dir / folder.name)
        names = [folder.name for folder in release.folders(self._settings.releases_dir)]
        if len(names) != 2:
            raise UsageError(f"two releases are needed, for one is swapped for the other; there are {names}")
        return names[0], names[1]

    def _announce(self, name: str) -> None:
        folder = self._settings.releases_dir / name
        notice = ReleaseNotice(
            release=name,
            status="live",
            ts=reshare_broker.now_ms(),
            location=name,
            manifest_sha256=release.digest(folder / release.MANIFEST),
        )
        reshare_broker.announce(self._settings, notice)

    def _go_wrong(self, fleet: Fleet, stream: Stream, second: str) -> None:
        """Let the stream flow for the run's time, and do to the processes what was drawn."""
        options = self._options
        seconds = options.minutes * 60
        faults = draw(options.seed, seconds, options.kills, options.rankers, options.brokers, SESSION_TIMEOUT_S)
        began, swapped = time.monotonic(), False
        with bar("Faults", len(faults), self._console) as advance:
            while (now := time.monotonic() - began) < seconds:
                while faults and faults[0].at_s <= now:
                    self._do(faults.pop(0), fleet)
                    advance(1)
                if not swapped and now >= SWAP_AT * seconds:
                    self._announce(second)
                    self._done["swap"] += 1
                    swapped = True
                self._start_brokers()
                fleet.look()
                stream.check()
                time.sleep(TICK_S)

    def _do(self, fault: Fault, fleet: Fleet) -> None:
        """One fault; where its victim is dead already, the next in line is taken, so that every kill is one."""
        if fault.kind == "kill broker" and not self._down:  # of two at a time the cluster would stand still
            self._cluster.kill(fault.victim + 1)
            self._down[fault.victim + 1] = time.monotonic() + fault.for_s
            self._note("kill broker", fault.victim + 1, fault)
            return
        strike = fleet.pause if fault.kind == "pause ranker" else fleet.kill
        for step in range(len(fleet.rankers)):
            victim = (fault.victim + step) % len(fleet.rankers)
            if strike(victim, fault.for_s):
                self._note("pause ranker" if fault.kind == "pause ranker" else "kill ranker", victim, fault)
                return

    def _note(self, what: str, whom: int, fault: Fault) -> None:
        self._done[what] += 1
        self._console.print(f"{fault.at_s:6.1f} s  {what} {whom}, for {fault.for_s:.1f} s", highlight=False)

    def _start_brokers(self, at_once: bool = False) -> None:
        """Start the dead brokers whose time has come; waiting for them is for the clients to do."""
        for number, at in list(self._down.items()):
            if at_once or time.monotonic() >= at:
                self._cluster.nodes[number].start()
                del self._down[number]

    def _settle(self, fleet: Fleet, stream: Stream) -> tuple[float, list[float]]:
        """Stop the stream, let the rankers catch up and save, and stop them; the seconds each of that took."""
        began = time.monotonic()
        self._start_brokers(at_once=True)
        self._cluster.restart(*self._cluster.nodes)
        fleet.make_whole()
        stream.stop()
        self._await(lambda: lag(self._settings) == 0, "the rankers to catch up", SETTLE_S, fleet)
        caught_up = time.monotonic() - began
        final = ends(self._settings, self._topics.events)
        self._await(lambda: marked(self._settings) == final, "every state to be saved", SETTLE_S, fleet)
        return caught_up, fleet.stop()

    def _await(self, condition: Callable[[], bool], what: str, patience_s: float, fleet: Fleet | None = None) -> None:
        deadline = time.monotonic() + patience_s
        while not _holds(condition):
            if fleet is not None:
                fleet.look()
            if time.monotonic() > deadline:
                raise ProcessFailed(f"waited {patience_s:.0f} s for {what}: see the logs in {self._processes.logs}")
            time.sleep(0.2)


def _holds(condition: Callable[[], bool]) -> bool:
    """A broker that is not ready to say is one of which it does not hold yet."""
    try:
        return condition()
    except RetriableError:
        return False


def _environment(settings: Settings) -> dict[str, str]:
    own: dict[str, Any] = {
        "ANABRANCH_BOOTSTRAP_SERVERS": settings.bootstrap_servers,
        "ANABRANCH_DATA_DIR": settings.data_dir,
        "ANABRANCH_RELEASES_DIR": settings.releases_dir,
        "ANABRANCH_PARTITIONS": settings.partitions,
        "ANABRANCH_SESSION_TIMEOUT_MS": settings.session_timeout_ms,
        "ANABRANCH_REPLICATION_FACTOR": settings.replication_factor,
    }
    return os.environ | {name: str(value) for name, value in own.items()}
