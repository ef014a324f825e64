"""The demo from start to end: broker, topics, first release, processes, replay with re-shares, evaluation."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass

import msgspec
from rich.console import Console

from anabranch.harness.demo.records import read_records
from anabranch.harness.demo.schedule import DemoSchedule, count_paced
from anabranch.harness.demo.summary import (
    OffsetSpan,
    Summary,
    events_within,
    latency_percentiles_ms,
    ranked_per_second,
    release_rows,
)
from anabranch.harness.environment import broker
from anabranch.harness.environment.processes import ChildProcess, Processes, ProcessFailed, free_ports
from anabranch.harness.environment.ranker_probe import RankerProbe
from anabranch.harness.environment.reconciliation import reconcile
from anabranch.harness.environment.testbed import child_environment
from anabranch.kafka import clients, topics
from anabranch.kafka.offsets import Offsets, ends, lag
from anabranch.kafka.release_topic import read_release_notices
from anabranch.kafka.topics import Topics
from anabranch.messages import Event
from anabranch.progress_bar import Advance, bar
from anabranch.ranking.policy import Policy
from anabranch.release import ReleasePolicy
from anabranch.settings import Settings
from models.evaluation.prequential import ServedLog, evaluate_prequentially
from models.report.prequential_table import prequential_as_json
from producers import catalogue, completejourney
from producers.completejourney import Purchases
from producers.pace import Pace
from producers.replay import replay

RESHARE_PACE = Pace(speed_up=2000.0)
"""Pace of the events while a retraining job runs. At full speed the job's minute would span months of the data; at a
multiple of data time the gates of two jobs are as many days apart as the segments, so each gate has new events."""
READY_TIMEOUT_S = 300.0
RUN_FOLDERS = ("broker", "releases", "reports", "curves", "reshare", "logs")
"""Folders that belong to one run. The text vectors stay: they depend on the texts alone."""
CHILD_SETTINGS = ("bootstrap_servers", "data_dir", "releases_dir", "topic_prefix", "exclude_seen")


@dataclass(frozen=True)
class DemoOptions:
    """The options of the command line."""

    schedule: DemoSchedule
    random_seed: int
    pace: Pace
    bootstrap_servers: str | None


def run(options: DemoOptions, settings: Settings, console: Console) -> Summary:
    """Run the demo in `settings.data_dir`; the broker and every process are stopped at the end."""
    started = time.monotonic()
    for name in RUN_FOLDERS:
        shutil.rmtree(settings.data_dir / name, ignore_errors=True)
    with broker.open_broker(options.bootstrap_servers, settings.data_dir / "broker") as opened:
        console.print(f"[bold]Broker[/]  {opened.kind}, {opened.bootstrap_servers}: {opened.limitations}.")
        settings = msgspec.structs.replace(settings, bootstrap_servers=opened.bootstrap_servers)
        with Processes(child_environment(settings, CHILD_SETTINGS), settings.data_dir / "logs") as processes:
            return Demo(options, settings, console, processes, opened.kind).run(started)


class Demo:
    """The steps, in the order in which `run` takes them."""

    def __init__(
        self, options: DemoOptions, settings: Settings, console: Console, processes: Processes, broker_kind: str
    ) -> None:
        self._options = options
        self._settings = settings
        self._topics = Topics(settings)
        self._console = console
        self._processes = processes
        self._broker_kind = broker_kind
        self._ranker = RankerProbe(free_ports(1)[0])

    def run(self, started: float) -> Summary:
        """All steps; `started` is on the monotonic clock, in seconds."""
        schedule, purchases = self._options.schedule, self._load_purchases()
        history = purchases.in_weeks(*schedule.history)
        self._provision_topics()
        self._publish_catalogue(purchases)
        with bar("History", len(history), self._console) as advance:
            self._publish(history.events(), Pace(), advance)
        first_offsets = self._end_offsets()
        self._make_first_release()
        self._start_serving()
        segments = [purchases.in_weeks(*weeks) for weeks in schedule.segments]
        segments[-1], paced = segments[-1].split(len(segments[-1]) - count_paced(len(segments[-1])))
        events_per_second, spans = self._replay(segments)
        paced_from = self._replay_paced(paced, events_per_second / 2)
        self._processes.check()
        return self._summarise(history, first_offsets, spans, paced_from, started)

    def _load_purchases(self) -> Purchases:
        schedule, random_seed = self._options.schedule, self._options.random_seed
        self._say(
            "Data",
            f"The Complete Journey, weeks {schedule.weeks[0]} to {schedule.weeks[1]}. Its baskets are sorted by "
            "product under one time stamp, an order that a model could learn, so the items of each basket are shuffled "
            f"(random seed {random_seed}) and spaced by a few seconds. The basket number is the session",
        )
        purchases = completejourney.purchases(random_seed, schedule.weeks)
        return purchases if schedule.households is None else purchases.of_households(schedule.households, random_seed)

    def _provision_topics(self) -> None:
        with closing(clients.admin(self._settings)) as admin:
            created = topics.provision(admin, self._settings)
        self._say("Topics", f"{len(created)} created; {self._topics.events} has {self._settings.partitions} partitions")

    def _publish_catalogue(self, purchases: Purchases) -> None:
        items = completejourney.catalogue()
        if self._options.schedule.households is not None:
            bought = purchases.bought()
            items = [item for item in items if item.item_id in bought]
        with (
            closing(clients.producer(self._settings)) as producer,
            bar("Catalogue", len(items), self._console) as advance,
        ):
            catalogue.publish(items, producer, self._topics.items, advance)

    def _make_first_release(self) -> None:
        self._say("Re-share", "the first release, from the history")
        self._start_reshare(on_terminal=True).wait()
        if self._live_release() is None:
            raise ProcessFailed("the gate rejected the first release, so there is none to serve; see its figures above")

    def _start_serving(self) -> None:
        """Start the indexer and the ranker, and wait until the ranker ranks."""
        self._say("Serve", f"`anabranch index` and `anabranch rank`, with release {self._live_release()}")
        self._processes.start("index")
        self._processes.start("rank", "--start", "latest", "--metrics-port", str(self._ranker.port))
        deadline = time.monotonic() + READY_TIMEOUT_S
        with bar("Embed the catalogue, compute user states from the history", None, self._console):
            while self._ranker.live_release() is None:
                self._processes.check()
                if time.monotonic() > deadline:
                    raise ProcessFailed(f"the ranker did not start to rank in {READY_TIMEOUT_S:.0f} s: see its log")
                time.sleep(0.1)

    def _replay(self, segments: list[Purchases]) -> tuple[float, list[OffsetSpan]]:
        """Replay the segments, with a re-share between two. Returns events ranked per second, and their offsets."""
        spans: list[OffsetSpan] = []
        ranked, seconds = 0, 0.0
        for index, segment in enumerate(segments):
            events = segment.events()
            if index > 0:
                self._reshare_during(events)
            first_offsets, segment_started = self._end_offsets(), time.monotonic()
            self._publish(events, self._options.pace)
            weeks = self._options.schedule.segments[index]
            ranked += self._wait_until_ranked(first_offsets, f"Replay, weeks {weeks[0]} to {weeks[1]}")
            seconds += time.monotonic() - segment_started
            spans.append((first_offsets, self._end_offsets()))
        return ranked / seconds, spans

    def _reshare_during(self, events: Iterator[Event]) -> None:
        """Run the retraining job while events flow, until it has ended and the ranker serves what it released."""
        pace = f"{RESHARE_PACE.speed_up:,.0f} times as fast as in the data"
        self._say("Re-share", f"a release candidate from the feedback so far, while events flow {pace}")
        incumbent = self._live_release()
        job = self._start_reshare()

        def events_until_swapped() -> Iterator[Event]:
            while job.alive and (event := next(events, None)) is not None:
                yield event
            expected = self._live_release()
            while self._ranker.live_release() != expected and (event := next(events, None)) is not None:
                yield event

        with bar("Events during the re-share", None, self._console) as advance:
            self._publish(events_until_swapped(), RESHARE_PACE, advance)
        job.wait()
        live = self._live_release()
        self._say("Gate", f"rejected: {incumbent} stays live" if live == incumbent else f"accepted: {live} is live")

    def _replay_paced(self, purchases: Purchases, events_per_second: float) -> Offsets:
        """Replay the last events at a rate that the ranker keeps up with, to measure latency without a backlog.

        Returns the offsets of the first of them.
        """
        first_offsets = self._end_offsets()
        with bar(f"Replay at {events_per_second:,.0f} events/s", len(purchases), self._console) as advance:
            self._publish(purchases.events(), Pace(events_per_second=events_per_second), advance)
        self._wait_until_ranked(first_offsets, "Rank the last of them")
        return first_offsets

    def _summarise(
        self, history: Purchases, first_offsets: Offsets, spans: list[OffsetSpan], paced_from: Offsets, started: float
    ) -> Summary:
        with bar("Read the topics", None, self._console) as advance:
            records = read_records(self._settings, first_offsets, advance)
        served = ServedLog.from_feedback(history.events(), records.feedback)
        with bar("Score the baselines on the same events", len(served.log), self._console) as advance:
            prequential = evaluate_prequentially(
                served, policy=Policy.from_settings(self._settings, ReleasePolicy()), done=advance
            )
        paced = events_within(records.events, (paced_from, self._end_offsets()))
        return Summary(
            broker=self._broker_kind,
            topic_prefix=self._settings.topic_prefix,
            random_seed=self._options.random_seed,
            discover=bool(self._settings.exclude_seen),
            reconciliation=reconcile(
                records.events,
                records.rankings,
                records.feedback,
                records.dead_letters,
                latest_only=self._settings.rank == "latest",
            ),
            events_per_second=ranked_per_second(
                [(events_within(records.events, span), records.rankings) for span in spans]
            ),
            latency_ms=latency_percentiles_ms(paced, records.rankings),
            releases=release_rows(read_release_notices(self._settings).newest),
            prequential=prequential_as_json(prequential),
            seconds=time.monotonic() - started,
        )

    def _start_reshare(self, on_terminal: bool = False) -> ChildProcess:
        random_seed = str(self._options.random_seed)
        return self._processes.start("reshare", "--once", "--random-seed", random_seed, on_terminal=on_terminal)

    def _live_release(self) -> str | None:
        live = read_release_notices(self._settings).live
        return None if live is None else live.release

    def _publish(self, events: Iterator[Event], pace: Pace, advance: Advance = lambda n: None) -> None:
        with closing(clients.producer(self._settings)) as producer:
            replay(events, producer, self._topics.events, pace, advance)

    def _wait_until_ranked(self, first_offsets: Offsets, label: str) -> int:
        """Wait until every event from `first_offsets` on is ranked. Returns their number."""
        total = sum(self._end_offsets().values()) - sum(first_offsets.values())
        with bar(label, total, self._console) as advance:
            remaining = total
            while remaining:
                self._processes.check()
                time.sleep(0.2)
                not_ranked = min(remaining, lag(self._settings))
                advance(remaining - not_ranked)
                remaining = not_ranked
        return total

    def _end_offsets(self) -> Offsets:
        return ends(self._settings, self._topics.events)

    def _say(self, step: str, text: str) -> None:
        self._console.print(f"[bold]{step}[/]  {text.rstrip('.')}.", highlight=False)
