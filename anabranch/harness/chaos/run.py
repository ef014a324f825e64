"""A chaos run from top to bottom: cluster, releases, rankers, stream, faults, and then the ledger."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import msgspec
from msgspec import Struct
from rich.console import Console

from anabranch.harness.chaos.faults import Fault, draw
from anabranch.harness.chaos.fleet import Fleet
from anabranch.harness.chaos.stream import Stream, messages
from anabranch.harness.chaos.verify import Findings, marked, verify
from anabranch.harness.environment.cluster import Cluster, start_cluster
from anabranch.harness.environment.processes import Processes
from anabranch.harness.environment.testbed import READY_S, Bed, clear, environment, on_cluster
from anabranch.kafka.offsets import committed, ends, lag
from anabranch.progress_bar import bar
from anabranch.settings import Settings

SESSION_TIMEOUT_S = 6.0
IN_MEMORY = 0.5
"""Share of the users that all rankers together keep in memory: the others are left to the log and come back."""
SWAP_AT = 0.5
"""Share of the run after which the second release goes live."""
TICK_S = 0.05


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
    ended: list[str]
    """Last words of processes that ended by themselves and were started again, as a supervisor would."""
    defects: int
    """Of those, the ones that did not say why in one line."""
    stream_failures: int
    shutdown_s: list[float]
    """How long each ranker took to end on SIGTERM."""
    catch_up_s: float
    """From the last fault to no lag."""
    seconds: float


def run(options: Options, settings: Settings, console: Console) -> tuple[Happened, Findings]:
    """Do it all in `settings.data_dir`; every process is stopped at the end. Raises `ProcessFailed`."""
    clear(settings.data_dir)
    with start_cluster(options.brokers, settings.data_dir / "cluster") as cluster:
        settings = on_cluster(settings, cluster, int(SESSION_TIMEOUT_S * 1000))
        few = max(1, int(options.households * IN_MEMORY / options.rankers))
        settings = msgspec.structs.replace(settings, max_users=few)
        console.print(f"Apache Kafka, {options.brokers} node(s), at {cluster.bootstrap_servers}", highlight=False)
        with Processes(environment(settings), settings.data_dir / "logs") as processes:
            return Chaos(options, Bed(settings, processes, options.households, options.seed), console, cluster).play()


class Chaos:
    """The steps, in the order in which `play` takes them."""

    def __init__(self, options: Options, bed: Bed, console: Console, cluster: Cluster) -> None:
        self._options = options
        self._bed = bed
        self._console = console
        self._cluster = cluster
        self._down: dict[int, float] = {}
        """When each dead broker starts again."""
        self._done: Counter[str] = Counter()

    def play(self) -> tuple[Happened, Findings]:
        """All of it."""
        began = time.monotonic()
        options, bed = self._options, self._bed
        bed.provision(events_ahead=int((options.minutes * 60 + READY_S) * options.per_second))
        first, second = bed.releases(2, options.releases, options.seed)
        start = ends(bed.settings, bed.topics.events)
        bed.announce(first)
        fleet = Fleet.of(bed.processes, options.rankers, "rank", "--start", "latest")
        fleet.add("index")
        bed.wait(lambda: committed(bed.settings) == start, "the rankers to begin", meanwhile=fleet.look)
        titles = {item.item_id: item.title for item in bed.items}
        stream = Stream(bed.settings, bed.topics.events, messages(bed.ahead, titles, options.seed), options.per_second)
        stream.start()
        # Or, where rankers are slow to load, the second release would be live before the first has ranked anything.
        bed.wait(lambda: any(ends(bed.settings, bed.topics.rankings).values()), "a first ranking", meanwhile=fleet.look)
        self._go_wrong(fleet, stream, first, second)
        caught_up, shutdown = self._settle(fleet, stream)
        self._console.print("reading the topics back", highlight=False)
        findings = verify(bed.settings, start)
        happened = Happened(
            seed=options.seed,
            minutes=options.minutes,
            rankers=options.rankers,
            brokers=options.brokers,
            kills={"rankers": self._done["kill ranker"], "brokers": self._done["kill broker"]},
            pauses=self._done["pause ranker"],
            swaps=self._done["swap"],
            ended=fleet.ended,
            defects=fleet.defects,
            stream_failures=stream.failures,
            shutdown_s=[round(seconds, 2) for seconds in shutdown],
            catch_up_s=round(caught_up, 1),
            seconds=round(time.monotonic() - began, 1),
        )
        return happened, findings

    def _go_wrong(self, fleet: Fleet, stream: Stream, first: str, second: str) -> None:
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
                    self._bed.announce(second, parent=first)
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
        bed = self._bed
        bed.wait(lambda: lag(bed.settings) == 0, "the rankers to catch up", meanwhile=fleet.look)
        caught_up = time.monotonic() - began
        final = ends(bed.settings, bed.topics.events)
        bed.wait(lambda: marked(bed.settings) == final, "every state to be saved", meanwhile=fleet.look)
        return caught_up, fleet.stop()
