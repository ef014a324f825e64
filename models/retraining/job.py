"""One run of the retraining job: from new feedback on the topics to a release that is live or rejected.

`run_once` reads top to bottom: collect events and items (`topics_io`), split the events by time (`windows`), train a
release candidate (`models.pipeline.release_candidate`), rank the gate's window with every contender
(`models.evaluation.contenders`), decide (`models.pipeline.release_gate`), publish the co-visit table and the decision
(`topics_io`), and write a report (`models.report`).
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import numpy as np

from anabranch import release
from anabranch.kafka.release_topic import announce, go_live, read_release_notices
from anabranch.messages import Item, Neighbours, RankedItem, ReleaseNotice
from anabranch.ranking.policy import Policy
from anabranch.ranking.types import Vectors
from anabranch.ranking.vocabulary import ItemVocabulary
from anabranch.release import DataWindow, Manifest, Release
from anabranch.settings import Settings
from models.co_visit.model import CoVisitModel
from models.co_visit.table import CoVisitTable
from models.data.event_log import EventLog
from models.data.event_store import EventStore
from models.evaluation.contenders import Contenders, PairedRanks, evaluate_contenders
from models.offline.offline_ranker import OfflineRanker, item_text_vectors, load_servable, neighbour_table
from models.pipeline.config import PipelineInputs, ReleaseCandidateConfig
from models.pipeline.release_candidate import ReleaseCandidate, make_release_candidate
from models.pipeline.release_gate import GateRule, Verdict, decide
from models.report.page import write
from models.report.report import Report
from models.retraining import topics_io
from models.retraining.release_folder import new_release_folder
from models.retraining.windows import DAY_MS, NotEnoughNewData, WindowLengths, split_windows
from models.stages import Bar, bar_by_stage
from models.training_curves import Curve, OpenCurve, no_curves


@dataclass(frozen=True)
class JobConfig:
    """Configuration of training and gate; the settings configure topics and folders."""

    windows: WindowLengths = field(default_factory=WindowLengths)
    candidate: ReleaseCandidateConfig = field(default_factory=ReleaseCandidateConfig)
    rule: GateRule = field(default_factory=GateRule)


@dataclass(frozen=True)
class RunResult:
    """The release of a run and what became of it."""

    notice: ReleaseNotice
    candidate: ReleaseCandidate
    verdict: Verdict
    events: int
    """Events in the event store."""
    seconds: float
    report_path: Path


def run_once(settings: Settings, config: JobConfig, bar: Bar, curves: OpenCurve = no_curves) -> RunResult:
    """Train a release candidate on the events so far, let the gate decide, announce the decision, write a report.

    Raises `NotEnoughData` if the events do not fill the windows. If only the gate's window is too short
    (`NotEnoughNewData`), the co-visit table is published first.
    """
    started = time.monotonic()
    notices = read_release_notices(settings)
    incumbent = notices.live
    parent = None if incumbent is None else release.open_announced(settings.releases_dir, incumbent)
    run = _RetrainingRun(settings, config, bar, *_collect(settings, incumbent is not None, bar), parent)
    try:
        window = run.split_windows(topics_io.last_gated_ms(notices.newest))
    except NotEnoughNewData:
        texts = None if parent is None else item_text_vectors(parent, run.items, settings.data_dir)
        run.publish_neighbours(run.fit_co_visits(run.events), texts)
        raise

    with new_release_folder(settings.releases_dir, notices.newest) as folder:
        with curves(folder.name) as curve:
            candidate = run.train(window, folder, curve)
        parent_id = None if incumbent is None else incumbent.release
        manifest = candidate.manifest(folder.name, parent_id, topics_io.now_ms(), window, release.digests(folder))

        texts = item_text_vectors(Release(folder, manifest), run.items, settings.data_dir)
        co_visit = run.fit_co_visits(run.events.split(window.gate_from)[0])
        paired = run.evaluate(Release(folder, manifest), co_visit, texts)
        verdict = decide(paired, config.rule)
        manifest = msgspec.structs.replace(manifest, gate=verdict.numbers)
        manifest_sha256 = release.write(folder, manifest)

    run.publish_neighbours(co_visit, texts)
    notice = _notice(manifest, manifest_sha256, verdict)
    if verdict.accepted:
        go_live(settings, notice, incumbent)
    else:
        announce(settings, notice)
    report_path = release.report_path(settings.data_dir, manifest.id)
    write(Report(manifest, candidate, verdict, config.rule), report_path)
    return RunResult(notice, candidate, verdict, len(run.events), time.monotonic() - started, report_path)


def publish_co_visits(settings: Settings, config: JobConfig, bar: Bar) -> None:
    """Publish the co-visit table of all events so far, without training a release candidate."""
    run = _RetrainingRun(settings, config, bar, *_collect(settings, from_feedback=False, bar=bar), parent=None)
    run.publish_neighbours(run.fit_co_visits(run.events), None)


@dataclass(frozen=True)
class _RetrainingRun:
    """The data of one run, and its steps."""

    settings: Settings
    config: JobConfig
    bar: Bar
    events: EventLog
    """All events; their item numbers are rows of `items`, then of items that left the catalogue."""
    items: list[Item]
    parent: Release | None
    """The live release."""

    def split_windows(self, last_gated_ms: int) -> DataWindow:
        """The windows of this run's events; see `models.retraining.windows.split_windows`."""
        trained_until_ms = 0 if self.parent is None else self.parent.manifest.window.gate_from
        return split_windows(self.events, self.config.windows, last_gated_ms, trained_until_ms)

    def train(self, window: DataWindow, folder: Path, curve: Curve) -> ReleaseCandidate:
        """Train a release candidate on the events before the gate's window, and write its files into `folder`."""
        inputs = PipelineInputs(
            self.events.split(window.gate_from)[0],
            self.items,
            window.order_from,
            self.parent,
            new_since_ms=0 if self.parent is None else self.parent.manifest.window.gate_from,
            purchases_from_ms=window.gate_from - int(self.config.windows.order_days * DAY_MS),
        )
        with bar_by_stage(self.bar) as progress:
            return make_release_candidate(
                inputs,
                folder,
                cache=self.settings.data_dir,
                config=self.config.candidate,
                progress=progress,
                curve=curve,
            )

    def fit_co_visits(self, events: EventLog) -> CoVisitModel:
        """The co-visit model of some events."""
        with self.bar("Co-visit table", len(events)) as advance:
            return CoVisitModel.fit(events, self.config.candidate.co_visits, advance)

    def evaluate(self, candidate: Release, co_visit: CoVisitModel, text_vectors: Vectors) -> PairedRanks:
        """Rank the gate's window with release candidate, incumbent and co-visit model.

        `co_visit` was trained on the events before the window and is trained on the window too. Candidate and incumbent
        read the same co-visit table: a child keeps its parent's text transformer, so they have the same text vectors.
        """
        start = int(np.searchsorted(self.events.ts, candidate.manifest.window.gate_from))
        table = co_visit.table(self.settings.neighbours, text_vectors)
        incumbent = None if self.parent is None else self._offline_ranker(self.parent, table)
        contenders = Contenders(self._offline_ranker(candidate, table), incumbent, co_visit)
        domains = [item.domain for item in self.items]
        with self.bar("Rank the gate's window", len(contenders) * len(self.events)) as advance:
            return evaluate_contenders(contenders, self.events, start, domains, advance)

    def publish_neighbours(self, co_visit: CoVisitModel, text_vectors: Vectors | None) -> None:
        """Publish the co-visit table. It does not depend on the gate's decision."""
        table = co_visit.table(self.settings.neighbours, text_vectors)
        rows = _neighbour_messages(table, self.events.item_ids, topics_io.now_ms())
        with self.bar("Publish neighbours", len(table.item)) as advance:
            topics_io.publish_neighbours(self.settings, rows, advance)

    def _offline_ranker(self, files: Release, table: CoVisitTable) -> OfflineRanker:
        """A release as it would serve, with the co-visit table as it was before the gate's window."""
        item_ids = ItemVocabulary()
        live = load_servable(files, item_ids, self.items, self.settings.data_dir)
        policy = Policy.from_settings(self.settings)
        return OfflineRanker(live, neighbour_table(table, item_ids, self.events, policy.neighbours), item_ids, policy)


def _collect(settings: Settings, from_feedback: bool, bar: Bar) -> tuple[EventLog, list[Item]]:
    """Bring the event store up to date, and read the catalogue: all events, and all items."""
    store = EventStore.open(settings.data_dir / "reshare" / "journal")
    with bar("Collect new events", None) as advance:
        topics_io.collect(settings, store, from_feedback, advance)
    with bar("Read the catalogue", None) as advance:
        items = topics_io.read_catalogue(settings)
        advance(len(items))
    return store.log([item.item_id for item in items]), items


def _notice(manifest: Manifest, manifest_sha256: str, verdict: Verdict) -> ReleaseNotice:
    return ReleaseNotice(
        release=manifest.id,
        status="live" if verdict.accepted else "rejected",
        ts=topics_io.now_ms(),
        location=manifest.id,
        manifest_sha256=manifest_sha256,
        parent=manifest.parent,
        reason=verdict.reason,
        gate=verdict.numbers,
        gate_from=manifest.window.gate_from,
        gate_to=manifest.window.gate_to,
    )


def _neighbour_messages(table: CoVisitTable, item_ids: Sequence[str], ts: int) -> Iterator[Neighbours]:
    """One message per row of the table."""
    for index, item in enumerate(table.item.tolist()):
        neighbours = zip(table.neighbours[index].tolist(), table.share[index].tolist(), strict=True)
        yield Neighbours(
            item_id=item_ids[item],
            neighbours=[RankedItem(item_ids[other], float(share)) for other, share in neighbours if other >= 0],
            popularity=float(table.popularity[index]),
            first_seen=int(table.first_seen[index]),
            repeat_rate=float(table.repeat_rate[index]),
            ts=ts,
        )
