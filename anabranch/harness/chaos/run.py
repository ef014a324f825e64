"""A chaos run from start to end: cluster, releases, rankers, event stream, faults, and the check of the topics."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import msgspec
from msgspec import Struct
from rich.console import Console

from anabranch.harness.chaos.contents import TopicContents, complete_up_to
from anabranch.harness.chaos.faults import Fault, draw_faults
from anabranch.harness.chaos.fleet import Fleet
from anabranch.harness.chaos.log_losses import LogLosses, LossFindings
from anabranch.harness.chaos.stream import EventStream, generate_messages
from anabranch.harness.chaos.verify import Findings, verify
from anabranch.harness.environment.cluster import Cluster, start_cluster
from anabranch.harness.environment.processes import Processes
from anabranch.harness.environment.testbed import (
    WAIT_TIMEOUT_S,
    Testbed,
    child_environment,
    clear,
    cluster_settings,
)
from anabranch.kafka.offsets import committed, ends, lag
from anabranch.placements import EACH_CLASS
from anabranch.progress_bar import bar
from anabranch.settings import Settings

SESSION_TIMEOUT_S = 6.0
IN_MEMORY_SHARE = 0.5
"""Share of the users that all rankers together keep in memory, so that the others are evicted and loaded again."""
SWAP_AFTER_SHARE = 0.5
"""Share of the run after which the second release goes live."""
TICK_S = 0.05


@dataclass(frozen=True)
class ChaosOptions:
    """The options of the command line."""

    minutes: float
    kills: int
    random_seed: int
    rankers: int
    brokers: int
    events_per_second: float
    households: int
    releases: Path | None
    """A folder with two releases, served in order of name; None: two are trained on the purchase history."""


class ChaosRun(Struct, frozen=True, kw_only=True):
    """What a run did to the processes."""

    random_seed: int = msgspec.field(name="seed")
    minutes: float
    rankers: int
    brokers: int
    kills: dict[str, int]
    """Number of kills of `rankers` and of `brokers`."""
    pauses: int
    swaps: int
    last_words: list[str] = msgspec.field(name="ended")
    """The last log line of each process that ended by itself and was restarted."""
    unexplained_ends: int = msgspec.field(name="defects")
    """How many of those lines are no one-line error of the command."""
    stream_failures: int
    """How often the producer of the stream had to be replaced."""
    shutdown_s: list[float]
    """Seconds from SIGTERM to the end, for each ranker."""
    catch_up_s: float
    """Seconds from the end of the faults until the rankers had no lag."""
    seconds: float


class ChaosResult(NamedTuple):
    """What was done, and what the topics held: after the kills, and after the logs lost events."""

    run: ChaosRun
    findings: Findings
    losses: LossFindings

    @property
    def adds_up(self) -> bool:
        """Whether nothing was lost but what the logs lost, and every process that ended gave its reason."""
        return self.findings.adds_up and self.losses.adds_up and not self.run.unexplained_ends


def run(options: ChaosOptions, settings: Settings, console: Console) -> ChaosResult:
    """Run in `settings.data_dir`; every process is stopped at the end. Raises `ProcessFailed`."""
    clear(settings.data_dir)
    with start_cluster(options.brokers, settings.data_dir / "cluster") as cluster:
        settings = cluster_settings(settings, cluster, int(SESSION_TIMEOUT_S * 1000))
        max_users = max(1, int(options.households * IN_MEMORY_SHARE / options.rankers))
        settings = msgspec.structs.replace(settings, max_users=max_users, placements=EACH_CLASS)
        console.print(f"Apache Kafka, {options.brokers} node(s), at {cluster.bootstrap_servers}", highlight=False)
        with Processes(child_environment(settings), settings.data_dir / "logs") as processes:
            testbed = Testbed(settings, processes, options.households, options.random_seed, release_count=2)
            return Chaos(options, testbed, console, cluster).run()


class Chaos:
    """The steps of a run, in the order in which `run` takes them."""

    def __init__(self, options: ChaosOptions, testbed: Testbed, console: Console, cluster: Cluster) -> None:
        self._options = options
        self._testbed = testbed
        self._settings = testbed.settings
        self._console = console
        self._cluster = cluster
        self._broker_restarts: dict[int, float] = {}
        """When each dead broker starts again, by node id, on the monotonic clock."""
        self._counts: Counter[str] = Counter()

    def run(self) -> ChaosResult:
        """All steps."""
        started, options, testbed = time.monotonic(), self._options, self._testbed
        events_ahead = int((options.minutes * 60 + WAIT_TIMEOUT_S) * options.events_per_second)
        testbed.provision(events_ahead)
        first, second = testbed.prepare_releases(options.releases, options.random_seed)
        first_offsets = ends(self._settings, testbed.topics.events)
        fleet = self._start_processes(first)
        self._await(lambda: committed(self._settings) == first_offsets, "rankers join the group", fleet)
        stream = self._start_stream(fleet)
        self._inject_faults(fleet, stream, first, second)
        catch_up_s, shutdown_s = self._drain(fleet, stream)
        self._console.print("reading the topics back", highlight=False)
        contents = TopicContents.read(self._settings)
        findings = verify(self._settings, contents, first_offsets)
        losses = LogLosses(testbed, options.rankers, contents, self._console).run(stream.messages, first_offsets)
        chaos_run = ChaosRun(
            random_seed=options.random_seed,
            minutes=options.minutes,
            rankers=options.rankers,
            brokers=options.brokers,
            kills={"rankers": self._counts["kill ranker"], "brokers": self._counts["kill broker"]},
            pauses=self._counts["pause ranker"],
            swaps=self._counts["swap"],
            last_words=fleet.last_words,
            unexplained_ends=fleet.unexplained_ends,
            stream_failures=stream.failures,
            shutdown_s=[round(seconds, 2) for seconds in shutdown_s],
            catch_up_s=round(catch_up_s, 1),
            seconds=round(time.monotonic() - started, 1),
        )
        return ChaosResult(chaos_run, findings, losses)

    def _start_processes(self, release: str) -> Fleet:
        self._testbed.announce(release)
        fleet = Fleet.start(self._testbed.processes, self._options.rankers, "rank", "--start", "latest")
        fleet.add("index")
        return fleet

    def _start_stream(self, fleet: Fleet) -> EventStream:
        """Start to publish, and wait for the first ranking: the second release must not go live before."""
        testbed, options = self._testbed, self._options
        titles = {item.item_id: item.title for item in testbed.items}
        messages = generate_messages(testbed.ahead, titles, options.random_seed)
        stream = EventStream(self._settings, testbed.topics.events, messages, options.events_per_second)
        stream.start()

        def has_ranking() -> bool:
            stream.check()
            return any(ends(self._settings, testbed.topics.rankings).values())

        self._await(has_ranking, "first ranking", fleet)
        return stream

    def _inject_faults(self, fleet: Fleet, stream: EventStream, first: str, second: str) -> None:
        """Inject the faults at their times, and let the second release go live in the middle of the run."""
        options = self._options
        run_s = options.minutes * 60
        faults = draw_faults(
            options.random_seed, run_s, options.kills, options.rankers, options.brokers, SESSION_TIMEOUT_S
        )
        started = time.monotonic()
        with bar("Faults", len(faults), self._console) as advance:
            while (elapsed := time.monotonic() - started) < run_s:
                while faults and faults[0].start_s <= elapsed:
                    self._inject(faults.pop(0), fleet)
                    advance(1)
                if not self._counts["swap"] and elapsed >= SWAP_AFTER_SHARE * run_s:
                    self._testbed.announce(second, parent=first)
                    self._counts["swap"] += 1
                self._restart_brokers()
                fleet.poll()
                stream.check()
                time.sleep(TICK_S)

    def _inject(self, fault: Fault, fleet: Fleet) -> None:
        """Inject one fault. If its victim is dead already, the next ranker is hit, so that every kill is one."""
        # With two brokers down at a time, no majority is left and the cluster stands still: a ranker is hit instead.
        if fault.kind == "kill broker" and not self._broker_restarts:
            node_id = fault.victim + 1
            self._cluster.kill(node_id)
            self._broker_restarts[node_id] = time.monotonic() + fault.duration_s
            self._note("kill broker", node_id, fault)
            return
        inject, name = (fleet.pause, "pause ranker") if fault.kind == "pause ranker" else (fleet.kill, "kill ranker")
        for step in range(len(fleet.rankers)):
            index = (fault.victim + step) % len(fleet.rankers)
            if inject(index, fault.duration_s):
                self._note(name, index, fault)
                return

    def _note(self, name: str, victim: int, fault: Fault) -> None:
        self._counts[name] += 1
        self._console.print(f"{fault.start_s:6.1f} s  {name} {victim} for {fault.duration_s:.1f} s", highlight=False)

    def _restart_brokers(self, all_now: bool = False) -> None:
        """Start the dead brokers whose time has come. The clients wait until they answer."""
        for node_id, restart_at in list(self._broker_restarts.items()):
            if all_now or time.monotonic() >= restart_at:
                self._cluster.nodes[node_id].start()
                del self._broker_restarts[node_id]

    def _drain(self, fleet: Fleet, stream: EventStream) -> tuple[float, list[float]]:
        """Stop the stream, let the rankers catch up and save all states, then stop them.

        Returns the seconds until there was no lag, and the seconds that each ranker took to stop.
        """
        started = time.monotonic()
        self._restart_brokers(all_now=True)
        self._cluster.restart(*self._cluster.nodes)
        fleet.restore_all()
        stream.stop()
        self._await(lambda: lag(self._settings) == 0, "rankers catch up", fleet)
        catch_up_s = time.monotonic() - started
        last_offsets = ends(self._settings, self._testbed.topics.events)
        self._await(lambda: complete_up_to(self._settings) == last_offsets, "rankers save every state", fleet)
        return catch_up_s, fleet.stop()

    def _await(self, condition: Callable[[], bool], description: str, fleet: Fleet) -> None:
        self._testbed.wait_until(condition, description, on_poll=fleet.poll)
