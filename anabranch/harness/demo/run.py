"""The demo from start to end: broker, bootstrap release, ranking, events with re-shares while they flow, evaluation."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import msgspec
from rich.console import Console
from rich.markup import escape

from anabranch import release
from anabranch.harness.bench.figures.statistics import percentiles
from anabranch.harness.demo import visitor
from anabranch.harness.demo.data import DemoData, Segment, hold_back
from anabranch.harness.demo.flow import Flow
from anabranch.harness.demo.records import DemoRecords, read_records
from anabranch.harness.demo.stage_clock import StageClock
from anabranch.harness.demo.summary import (
    OffsetSpan,
    Summary,
    events_within,
    latency_percentiles_ms,
    ranked_per_second,
    release_rows,
)
from anabranch.harness.demo.system import System
from anabranch.harness.demo.visitor import Services
from anabranch.harness.environment import broker
from anabranch.harness.environment.processes import ChildProcess, Processes, ProcessFailed, free_ports
from anabranch.harness.environment.ranker_probe import ProcessProbe, RankerProbe
from anabranch.harness.environment.reconciliation import reconcile
from anabranch.harness.environment.run_folders import replace_run_folders
from anabranch.harness.environment.testbed import child_environment
from anabranch.input_files.faults import counted
from anabranch.kafka.offsets import Offsets
from anabranch.kafka.release_topic import read_release_notices
from anabranch.messages import Event, Item
from anabranch.placements import EACH_CLASS
from anabranch.progress_bar import bar
from anabranch.settings import DEFAULTS, Settings
from models.data.event_log import EventLog
from models.data.excluded_items import SlateRules
from models.evaluation.prequential import Prequential, ServedLog, evaluate_prequentially
from models.offline.offline_ranker import item_text_vectors
from models.pipeline.baselines import make_baselines
from models.pipeline.data_kind import KindDecision, find_kind
from models.pipeline.presets import Kind, preset
from models.report.prequential_table import prequential_as_json
from producers.pace import FULL_SPEED, Pace

RUN_FOLDERS = ("broker", "releases", "reports", "curves", "reshare", "neighbours", "logs")
"""Folders that belong to one run. The text vectors stay: they depend on the texts alone."""
CHILD_SETTINGS = (
    "bootstrap_servers",
    "data_dir",
    "releases_dir",
    "topic_prefix",
    "exclude_seen",
    "gate_tolerates",
    "placements",
    "live_neighbours",
)
CLICKS = 50
"""Of the visitor."""
TOLERATED = "cold_items,first_of_session,placement:discover"
"""What the gate tolerates losses on, unless the user names others. Cold items are mostly new to their users, and where
most people buy again, releases give the first placement to what they buy again. And of a few hundred households the
first events of sessions, and the items new to them, are too few: an interval on `discover` is as wide as a fifth of its
NDCG, so that a release as good as the one before would be rejected."""


@dataclass(frozen=True)
class DemoOptions:
    """The options of the command line."""

    load: Callable[[], DemoData]
    """Reads the data. Nothing is started before it has returned."""
    random_seed: int
    pace: Pace
    """Of the events between two re-shares."""
    bootstrap_servers: str | None
    kind: Kind | None = None
    """None: found from the history."""


def run(options: DemoOptions, settings: Settings, console: Console) -> Summary:
    """Run the demo in `settings.data_dir`; the broker and every process are stopped at the end."""
    clock = StageClock()
    with clock("read the data"):
        data = options.load()
    replace_run_folders(settings.data_dir, RUN_FOLDERS)
    with clock("start the broker"):
        opened = broker.open_broker(options.bootstrap_servers, settings.data_dir / "broker")
    with opened:
        settings = msgspec.structs.replace(
            settings,
            bootstrap_servers=opened.bootstrap_servers,
            gate_tolerates=settings.gate_tolerates or TOLERATED,
            live_neighbours=True,
            placements=EACH_CLASS if settings.placements == DEFAULTS.placements else settings.placements,
        )
        with Processes(child_environment(settings, CHILD_SETTINGS), settings.data_dir / "logs") as processes:
            ranker_port, neighbours_port = free_ports(2)
            system = System(settings, processes, RankerProbe(ranker_port), ProcessProbe(neighbours_port), console)
            return Demo(options, data, system, opened, clock).run()


class Demo:
    """The steps, in the order in which `run` takes them."""

    def __init__(
        self, options: DemoOptions, data: DemoData, system: System, opened: broker.Broker, clock: StageClock
    ) -> None:
        self._options = options
        self._data = data
        self._system = system
        self._broker = opened
        self._clock = clock
        log = EventLog.from_events(data.history)
        self._kind = find_kind(log) if options.kind is None else KindDecision.named(options.kind)
        self._windows = data.windows()
        self._spans: list[OffsetSpan] = []
        """What was published at full load."""
        self._ranked, self._ranked_s = 0, 0.0
        """Events of these spans, and the time until they were ranked."""
        self._services: Services
        self._click_to_slate_ms: list[float] = []

    def run(self) -> Summary:
        """All steps; this is the one place where their order is decided."""
        self._introduce()
        self._publish_catalogue()
        self._make_bootstrap_release()
        self._start_serving()
        self._replay("the history", self._data.history)
        segments, paced = hold_back(self._data.segments)
        for segment in segments:
            flow = Flow(segment.events)
            self._reshare_during(segment, flow)
            self._replay(f"the rest of {segment.name}", flow.rest(), self._options.pace)
        self._start_services()
        paced_from = self._replay_paced(paced)
        self._system.check()
        return self._summarise(paced_from)

    def _introduce(self) -> None:
        self._say("Broker", f"{self._broker.kind}, {self._broker.bootstrap_servers}: {self._broker.limitations}")
        self._say("Data", self._data.title)
        for note in self._data.notes:
            self._system.console.print(f"  {note}", markup=False, highlight=False, soft_wrap=True)
        self._say("Kind", f"{self._kind.kind}: {self._kind.reason}")
        segments, windows = self._data.segments, self._windows
        following = sum(len(segment.events) for segment in segments)
        self._say(
            "Plan",
            f"{len(self._data.history):,} events, then {following:,} more in {counted(len(segments), 'segment')}, "
            f"with a re-share during each: --order-days {windows.order_days:.3g} --gate-days {windows.gate_days:.3g}",
        )
        self._say("Gate", f"reports losses on {self._system.settings.gate_tolerates} and does not reject for them")

    def _publish_catalogue(self) -> None:
        with self._clock("publish the catalogue"):
            created = self._system.provision_topics()
            self._say("Topics", f"{created} created, with {self._system.settings.partitions} partitions for events")
            self._system.publish_items(self._data.items)

    def _make_bootstrap_release(self) -> None:
        self._say("Re-share", "there are no events yet: a bootstrap release, which needs no training")
        with self._clock("make the bootstrap release"):
            self._start_reshare(on_terminal=True).wait()
        if self._system.live_release() is None:
            raise ProcessFailed("the retraining job announced no release to begin with; see its output above")

    def _start_serving(self) -> None:
        self._say("Serve", f"`anabranch index`, `neighbours` and `rank`, with release {self._system.live_release()}")
        with self._clock("start to rank"):
            self._system.start_serving()
        self._say("Serve", f"every event is ranked from now on, {self._clock.seconds:.0f} s after the start")

    def _replay(self, label: str, events: Iterable[Event], pace: Pace = FULL_SPEED) -> None:
        """Publish events, and wait until they are ranked."""
        first_offsets, started = self._system.end_offsets(), time.monotonic()
        with self._clock(f"replay {label}"):
            self._system.publish(events, pace)
            self._ranked += self._system.wait_until_ranked(first_offsets, f"Rank {label}")
        self._ranked_s += time.monotonic() - started
        self._spans.append((first_offsets, self._system.end_offsets()))

    def _reshare_during(self, segment: Segment, flow: Flow) -> None:
        """Run the retraining job while events flow, until it has ended and the ranker serves what is live."""
        self._say("Re-share", f"a release candidate from what was ranked so far, while events of {segment.name} flow")
        announced_before = self._system.notices().keys()
        with self._clock(f"re-share during {segment.name}"):
            job = self._start_reshare()
            with bar("Events while a candidate is trained", None, self._system.console) as advance:
                self._system.publish(self._until_swapped(job, flow), advance=advance)
            refused = self._system.wait_for(job)
            self._system.wait_until_swapped()
        self._say("Gate", self._decision(announced_before, refused))

    def _until_swapped(self, job: ChildProcess, flow: Flow) -> Iterator[Event]:
        yield from flow.while_(lambda: job.alive)
        live = self._system.live_release()
        yield from flow.while_(lambda: self._system.ranker.live_release() != live)

    def _decision(self, announced_before: Iterable[str], refused: str | None) -> str:
        live = self._system.live_release()
        if refused is not None:
            return f"no candidate, {live} stays live: {refused}"
        [notice] = [notice for name, notice in self._system.notices().items() if name not in announced_before]
        if notice.release == live:
            return f"accepted: {live} is live, and was swapped in while events flowed: {notice.reason}"
        return f"{notice.release} is rejected, {live} stays live: {notice.reason}"

    def _start_services(self) -> None:
        self._say("Serve", "`anabranch collect` and `serve`: a shop sends events and asks for slates over HTTP")
        with self._clock("start the HTTP services"):
            self._services = self._system.start_services()

    def _replay_paced(self, events: Sequence[Event]) -> Offsets:
        """Replay the last events at half the rate of full load, to measure latency without a backlog, while a visitor
        clicks.

        Returns the offsets of the first of them.
        """
        first_offsets = self._system.end_offsets()
        with self._clock("measure the latency"):
            rate = self._events_per_second() / 2
            if events and rate:
                self._say("Latency", f"the last {len(events):,} events at {rate:,.0f} events/s, half of the full load")
                with ThreadPoolExecutor(1) as pool:
                    visit = pool.submit(visitor.visit, self._services, self._data.items, CLICKS)
                    self._system.publish(events, Pace(events_per_second=rate))
                    self._click_to_slate_ms = visit.result()
                self._system.wait_until_ranked(first_offsets, "Rank the last of them")
        return first_offsets

    def _summarise(self, paced_from: Offsets) -> Summary:
        settings = self._system.settings
        with self._clock("read back and evaluate"):
            with bar("Read the topics", None, self._system.console) as advance:
                records = read_records(settings, advance)
            prequential = self._evaluate(records)
        paced = events_within(records.events, (paced_from, self._system.end_offsets()))
        return Summary(
            broker=self._broker.kind,
            topic_prefix=settings.topic_prefix,
            random_seed=self._options.random_seed,
            data=self._data.title,
            kind=self._kind.kind,
            discover=bool(settings.exclude_seen),
            reconciliation=reconcile(
                records.events,
                records.rankings,
                records.feedback,
                records.dead_letters,
                latest_only=settings.rank == "latest",
            ),
            events_per_second=self._ranked_per_second(records),
            latency_ms=latency_percentiles_ms(paced, records.rankings),
            clicks=len(self._click_to_slate_ms),
            click_to_slate_ms=percentiles(self._click_to_slate_ms) if self._click_to_slate_ms else {},
            releases=release_rows(self._system.notices()),
            prequential=prequential_as_json(prequential),
            stages=self._clock.stages,
            seconds=self._clock.seconds,
        )

    def _evaluate(self, records: DemoRecords) -> Prequential:
        """Score what was served and the baselines on the same events, with the filters by which the ranker served."""
        settings = self._system.settings
        notice = read_release_notices(settings).live
        assert notice is not None
        live = release.open_announced(settings.releases_dir, notice)
        rules = SlateRules.from_settings(settings, live.manifest.policy)
        served = ServedLog.from_feedback([], records.feedback, rules.policy.placement_names)
        texts = item_text_vectors(live, self._items(served.log.item_ids), settings.data_dir)
        against = make_baselines(preset(self._kind.kind), texts)
        with bar("Score the baselines on the same events", len(served.log), self._system.console) as advance:
            return evaluate_prequentially(served, rules, against, done=advance)

    def _items(self, item_ids: Sequence[str]) -> list[Item]:
        """The items of these ids; one that is not in the catalogue has no text."""
        by_id = {item.item_id: item for item in self._data.items}
        return [by_id.get(item_id) or Item(item_id=item_id, title="") for item_id in item_ids]

    def _ranked_per_second(self, records: DemoRecords) -> float:
        return ranked_per_second([(events_within(records.events, span), records.rankings) for span in self._spans])

    def _events_per_second(self) -> float:
        """Events ranked per second at full load so far, as seen by their publisher."""
        return self._ranked / self._ranked_s if self._ranked_s else 0.0

    def _start_reshare(self, on_terminal: bool = False) -> ChildProcess:
        return self._system.start_reshare(
            f"--random-seed={self._options.random_seed}",
            f"--kind={self._kind.kind}",
            f"--order-days={self._windows.order_days}",
            f"--gate-days={self._windows.gate_days}",
            on_terminal=on_terminal,
        )

    def _say(self, step: str, text: str) -> None:
        self._system.console.print(f"[bold]{step}[/]  {escape(text.rstrip('.'))}.", highlight=False, soft_wrap=True)
