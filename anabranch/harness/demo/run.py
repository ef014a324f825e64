"""The demo from top to bottom: broker, topics, first release, processes, replay with re-sharing, account."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass

import msgspec
from rich.console import Console

from anabranch.harness.demo import records
from anabranch.harness.demo.plan import Plan
from anabranch.harness.demo.plan import paced as paced_events
from anabranch.harness.demo.summary import Summary, latencies, release_rows, standings, throughput, within
from anabranch.harness.environment import broker
from anabranch.harness.environment.processes import Child, Processes, ProcessFailed
from anabranch.harness.environment.ranker_probe import RankerStatus, free_port
from anabranch.harness.environment.reconciliation import ledger
from anabranch.kafka import clients, topics
from anabranch.kafka.offsets import Offsets, ends, lag
from anabranch.kafka.topics import Topics
from anabranch.messages import Event
from anabranch.progress_bar import Advance, bar
from anabranch.ranking.policy import Policy
from anabranch.settings import Settings
from models.evaluation.prequential import ServedLog, account
from models.retraining import topics_io as reshare_broker
from producers import catalogue, completejourney
from producers.completejourney import Purchases
from producers.pace import Pace
from producers.replay import replay

WHILE_RESHARING = Pace(times=2000.0)
"""For events while the re-sharing job runs: at full speed its minute would span months of the data. A multiple of the
data's time, so that runs find days as far apart as the weeks between them: the gate wants as many new ones."""
READY_SECONDS = 300.0
CLEARED = ("broker", "releases", "reports", "curves", "reshare", "logs")
"""What an earlier demo left; the text vectors, which depend on the texts alone, stay."""

Span = tuple[Offsets, Offsets]
"""A stretch of `events`: from these offsets, up to those."""


@dataclass(frozen=True)
class Options:
    """What the command line asks for."""

    plan: Plan
    seed: int
    kafka: bool
    pace: Pace
    bootstrap_servers: str | None


def run(options: Options, settings: Settings, console: Console) -> Summary:
    """Run the demo in `settings.data_dir`; the broker and every process it started are stopped at the end."""
    started = time.monotonic()
    for name in CLEARED:
        shutil.rmtree(settings.data_dir / name, ignore_errors=True)
    with broker.open_broker(options.bootstrap_servers, options.kafka, settings.data_dir / "broker") as opened:
        console.print(f"[bold]Broker[/]  {opened.kind}, {opened.bootstrap_servers}: {opened.promise}.")
        settings = msgspec.structs.replace(settings, bootstrap_servers=opened.bootstrap_servers)
        with Processes(_environment(settings), settings.data_dir / "logs") as processes:
            return Demo(options, settings, console, processes, opened.kind).play(started)


class Demo:
    """The steps, in the order in which `play` takes them."""

    def __init__(
        self, options: Options, settings: Settings, console: Console, processes: Processes, broker_kind: str
    ) -> None:
        self._options = options
        self._settings = settings
        self._topics = Topics(settings)
        self._console = console
        self._processes = processes
        self._broker_kind = broker_kind
        self._ranker = RankerStatus(free_port())

    def play(self, started: float) -> Summary:
        """All of it; `started` is on the monotonic clock."""
        plan, purchases = self._options.plan, self._load()
        history = purchases.in_weeks(*plan.history)
        self._provision()
        self._publish_catalogue(purchases)
        with bar("History", len(history), self._console) as advance:
            self._publish(history.events(), Pace(), advance)
        start = self._ends()
        self._reshare_first()
        self._serve()
        stretches = [purchases.in_weeks(*weeks) for weeks in plan.stretches]
        stretches[-1], paced = stretches[-1].split(len(stretches[-1]) - paced_events(len(stretches[-1])))
        rate, spans = self._replay(stretches)
        paced_from = self._pace(paced, rate / 2)
        self._processes.check()
        return self._account(history, start, spans, paced_from, started)

    def _load(self) -> Purchases:
        plan, seed = self._options.plan, self._options.seed
        self._say(
            "Data",
            f"The Complete Journey, weeks {plan.weeks[0]} to {plan.weeks[1]}. Its baskets come sorted by product with "
            f"one time stamp, which a model could learn: each is shuffled (seed {seed}), its items are spaced by a few "
            "seconds, and its number is the session.",
        )
        purchases = completejourney.purchases(seed, plan.weeks)
        return purchases if plan.households is None else purchases.of_households(plan.households, seed)

    def _provision(self) -> None:
        with closing(clients.admin(self._settings)) as admin:
            created = topics.provision(admin, self._settings)
        self._say("Topics", f"{len(created)} created; {self._topics.events} has {self._settings.partitions} partitions")

    def _publish_catalogue(self, purchases: Purchases) -> None:
        items = completejourney.catalogue()
        if self._options.plan.households is not None:
            bought = purchases.bought()
            items = [item for item in items if item.item_id in bought]
        with (
            closing(clients.producer(self._settings)) as producer,
            bar("Catalogue", len(items), self._console) as advance,
        ):
            catalogue.publish(items, producer, self._topics.items, advance)

    def _reshare_first(self) -> None:
        self._say("Re-share", "the first release, from the history")
        self._start_reshare(on_terminal=True).wait()
        if self._newest_release() is None:
            raise ProcessFailed("the gate rejected the first release, so nothing can serve; its numbers stand above")

    def _serve(self) -> None:
        """Start indexer and ranker, and wait until the ranker ranks."""
        self._say("Serve", f"`anabranch index` and `anabranch rank`, with release {self._newest_release()}")
        self._processes.start("index")
        self._processes.start("rank", "--start", "latest", "--metrics-port", str(self._ranker.port))
        deadline = time.monotonic() + READY_SECONDS
        with bar("Vectorise the catalogue, fold the history into user states", None, self._console):
            while self._ranker.release() is None:
                self._processes.check()
                if time.monotonic() > deadline:
                    raise ProcessFailed(f"the ranker did not begin to rank in {READY_SECONDS:.0f} s: see its log")
                time.sleep(0.1)

    def _replay(self, stretches: list[Purchases]) -> tuple[float, list[Span]]:
        """Replay the stretches, a re-share between each two; events ranked a second, and where in the log that was."""
        spans: list[Span] = []
        ranked, seconds = 0, 0.0
        for number, stretch in enumerate(stretches):
            ahead = stretch.events()
            if number > 0:
                self._reshare_during(ahead)
            before, begun = self._ends(), time.monotonic()
            self._publish(ahead, self._options.pace)
            ranked += self._drain(before, "Replay, weeks {} to {}".format(*self._options.plan.stretches[number]))
            seconds += time.monotonic() - begun
            spans.append((before, self._ends()))
        return ranked / seconds, spans

    def _reshare_during(self, ahead: Iterator[Event]) -> None:
        """Re-share while events flow, until the job has ended and what it released is swapped in."""
        pace = f"{WHILE_RESHARING.times:,.0f} times as fast as they happened"
        self._say("Re-share", f"a candidate from the feedback so far, while events flow {pace}")
        before = self._newest_release()
        resharing = self._start_reshare()

        def until_swapped() -> Iterator[Event]:
            while resharing.running and (event := next(ahead, None)) is not None:
                yield event
            expected = self._newest_release()
            while self._ranker.release() != expected and (event := next(ahead, None)) is not None:
                yield event

        with bar("Events meanwhile", None, self._console) as advance:
            self._publish(until_swapped(), WHILE_RESHARING, advance)
        resharing.wait()
        newest = self._newest_release()
        self._say("Gate", f"rejected: {before} stays" if newest == before else f"passed: {newest} was swapped in")

    def _pace(self, purchases: Purchases, rate: float) -> Offsets:
        """The last stretch at a rate the ranker keeps up with, to see latency and not a queue; where it begins."""
        before = self._ends()
        with bar(f"Paced at {rate:,.0f} events a second", len(purchases), self._console) as advance:
            self._publish(purchases.events(), Pace(per_second=rate), advance)
        self._drain(before, "Last of them")
        return before

    def _account(
        self, history: Purchases, start: Offsets, spans: list[Span], paced_from: Offsets, started: float
    ) -> Summary:
        with bar("Read back the topics", None, self._console) as advance:
            found = records.read(self._settings, start, advance)
        served = ServedLog.of(history.events(), found.feedback)
        with bar("Score the baselines on the same events", len(served.log), self._console) as advance:
            prequential = account(served, policy=Policy.of(self._settings), done=advance)
        at_speed = [(within(found.events, span), found.answers) for span in spans]
        return Summary(
            broker=self._broker_kind,
            topic_prefix=self._settings.topic_prefix,
            seed=self._options.seed,
            discover=self._settings.discover,
            ledger=ledger(
                found.events, found.answers, found.feedback, found.dead, latest=self._settings.rank == "latest"
            ),
            events_per_second=throughput(at_speed),
            latency_ms=latencies(within(found.events, (paced_from, self._ends())), found.answers),
            releases=release_rows(reshare_broker.notices(self._settings)),
            prequential=standings(prequential),
            seconds=time.monotonic() - started,
        )

    def _start_reshare(self, on_terminal: bool = False) -> Child:
        return self._processes.start("reshare", "--once", "--seed", str(self._options.seed), on_terminal=on_terminal)

    def _newest_release(self) -> str | None:
        live = reshare_broker.live(reshare_broker.notices(self._settings))
        return None if live is None else live.release

    def _publish(self, events: Iterator[Event], pace: Pace, advance: Advance = lambda n: None) -> None:
        with closing(clients.producer(self._settings)) as producer:
            replay(events, producer, self._topics.events, pace, advance)

    def _drain(self, before: Offsets, what: str) -> int:
        """Wait until everything since `before` is ranked; how many events that were."""
        total = sum(self._ends().values()) - sum(before.values())
        with bar(what, total, self._console) as advance:
            waiting = total
            while waiting:
                self._processes.check()
                time.sleep(0.2)
                left = min(waiting, lag(self._settings))
                advance(waiting - left)
                waiting = left
        return total

    def _ends(self) -> Offsets:
        return ends(self._settings, self._topics.events)

    def _say(self, step: str, what: str) -> None:
        self._console.print(f"[bold]{step}[/]  {what.rstrip('.')}.", highlight=False)


def _environment(settings: Settings) -> dict[str, str]:
    """This process's environment with the demo's own settings, for the children."""
    own = {
        "ANABRANCH_BOOTSTRAP_SERVERS": settings.bootstrap_servers,
        "ANABRANCH_DATA_DIR": str(settings.data_dir),
        "ANABRANCH_RELEASES_DIR": str(settings.releases_dir),
        "ANABRANCH_TOPIC_PREFIX": settings.topic_prefix,
        "ANABRANCH_DISCOVER": str(settings.discover).lower(),
    }
    return os.environ | own
