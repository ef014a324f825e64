"""One run of the retraining job: from new feedback on the topics to a release that is live or rejected.

`run_once` reads top to bottom: collect events and items (`topics_io`), announce a bootstrap release if no release has
served yet (`models.pipeline.bootstrap_release`), split the events by time (`windows`), train a release candidate
(`models.pipeline.release_candidate`), rank the gate's window with every contender (`models.evaluation.contenders`),
decide (`models.pipeline.release_gate`), publish the co-visit table and the decision (`topics_io`), and write a report
(`models.report`).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Self

import msgspec
import numpy as np

from anabranch import release
from anabranch.kafka.release_topic import announce, go_live, read_release_notices
from anabranch.messages import Item, Neighbours, RankedItem, ReleaseNotice, ReleaseStatus
from anabranch.ranking.policy import Policy
from anabranch.ranking.types import Vectors
from anabranch.ranking.vocabulary import ItemVocabulary
from anabranch.release import DataWindow, Manifest, Release
from anabranch.release_notices import ReleaseNotices
from anabranch.settings import Settings
from models.co_visit.model import CoVisitModel
from models.co_visit.table import CoVisitTable
from models.data.event_log import NONE, EventLog
from models.data.event_store import EventStore
from models.evaluation.contenders import Contenders, PairedRanks, evaluate_contenders
from models.offline.offline_ranker import OfflineRanker, item_text_vectors, load_servable, neighbour_table
from models.pipeline.bootstrap_release import make_bootstrap_release
from models.pipeline.config import PipelineInputs, ReleaseCandidateConfig
from models.pipeline.data_kind import KindDecision, find_kind
from models.pipeline.presets import Kind, preset
from models.pipeline.release_candidate import ReleaseCandidate, make_release_candidate
from models.pipeline.release_gate import GateRule, Verdict, decide
from models.report.page import write
from models.report.report import Report
from models.retraining import topics_io
from models.retraining.release_folder import new_release_folder
from models.retraining.windows import DAY_MS, NotEnoughData, WindowLengths, require_users, split_windows
from models.stages import Bar, Stages, bar_by_stage
from models.training_curves import Curve, OpenCurve, no_curve, no_curves

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class JobConfig:
    """Configuration of training and gate; the settings configure topics and folders."""

    windows: WindowLengths = field(default_factory=WindowLengths)
    kind: Kind | None = None
    """None: found from the events."""
    candidate_of: Callable[[Kind], ReleaseCandidateConfig] = preset
    """The configuration of training for a kind of data."""
    rule: GateRule = field(default_factory=GateRule)


@dataclass(frozen=True)
class GatedRelease:
    """A release candidate, and what the gate decided."""

    notice: ReleaseNotice
    candidate: ReleaseCandidate
    verdict: Verdict
    report_path: Path


@dataclass(frozen=True)
class RunResult:
    """What a run announced: a bootstrap release, a release that passed the gate or did not, or both."""

    kind: KindDecision
    events: int
    """Events in the event store."""
    seconds: float
    bootstrap: ReleaseNotice | None
    gated: GatedRelease | None
    waiting_for: str | None = None
    """What a release candidate lacks; None if there is one."""


def run_once(settings: Settings, config: JobConfig, bar: Bar, curves: OpenCurve = no_curves) -> RunResult:
    """Train a release candidate on the events so far, let the gate decide, announce the decision, write a report.

    Where no release has served yet, a bootstrap release is made and announced first; the candidate has to beat it. The
    co-visit table is published either way. Raises `NotEnoughData` if there is too little for a candidate and no
    bootstrap release was made.
    """
    started = time.monotonic()
    notices = read_release_notices(settings)
    run = _RetrainingRun.open(settings, config, bar, notices.live)
    bootstrap = None
    if not notices.any_served:
        bootstrap = run.announce_bootstrap(notices)
        notices.add(bootstrap)
        run = run.with_incumbent(bootstrap)
    try:
        gated = run.gate_candidate(run.split_windows(notices), notices, curves)
        waiting_for = None
    except NotEnoughData as error:
        if bootstrap is None:
            run.publish_all_co_visits()
            raise
        gated, waiting_for = None, str(error)
    return RunResult(run.kind, len(run.events), time.monotonic() - started, bootstrap, gated, waiting_for)


def publish_co_visits(settings: Settings, config: JobConfig, bar: Bar) -> None:
    """Publish the co-visit table of all events so far, without training a release candidate."""
    _RetrainingRun.open(settings, config, bar, None).publish_all_co_visits()


@dataclass(frozen=True)
class _RetrainingRun:
    """The data of one run, and its steps."""

    settings: Settings
    config: JobConfig
    bar: Bar
    events: EventLog
    """All events; their item numbers are rows of `items`, then of items that left the catalogue."""
    items: list[Item]
    kind: KindDecision
    candidate_config: ReleaseCandidateConfig
    incumbent: Release | None
    """The live release."""

    @classmethod
    def open(cls, settings: Settings, config: JobConfig, bar: Bar, live: ReleaseNotice | None) -> Self:
        """Collect events and items, and find the kind of data."""
        incumbent = None if live is None else release.open_announced(settings.releases_dir, live)
        events, items = _collect(settings, bar)
        kind = find_kind(events) if config.kind is None else KindDecision.named(config.kind)
        log.info("kind of data: %s (%s)", kind.kind, kind.reason)
        candidate = config.candidate_of(kind.kind)
        policy = Policy.from_settings(settings, candidate.policy.for_release)
        return cls(settings, config, bar, events, items, kind, replace(candidate, policy=policy), incumbent)

    def with_incumbent(self, notice: ReleaseNotice) -> Self:
        """The same, after a release went live."""
        return replace(self, incumbent=release.open_announced(self.settings.releases_dir, notice))

    @property
    def parent(self) -> Release | None:
        """The release whose weights training starts from; a bootstrap release has none that were learned."""
        return None if self.incumbent is None or self.incumbent.manifest.is_bootstrap else self.incumbent

    @property
    def neighbours(self) -> int:
        """Width of the co-visit table, which all releases share."""
        return self.candidate_config.policy.neighbours

    def announce_bootstrap(self, notices: ReleaseNotices) -> ReleaseNotice:
        """Make a bootstrap release, publish the co-visit table that it needs, and announce it live."""
        reason = "no release served yet; it ranks until a trained release is better"
        with new_release_folder(self.settings.releases_dir, notices.newest) as folder:
            with bar_by_stage(self.bar) as progress, Stages(progress, no_curve)("bootstrap release") as done:
                manifest = make_bootstrap_release(
                    self.events,
                    self.items,
                    folder,
                    cache=self.settings.data_dir,
                    config=self.candidate_config,
                    kind=self.kind,
                    reason=reason,
                    done=done,
                )
            manifest_sha256 = release.write(folder, manifest)
        self.publish_all_co_visits()
        notice = _notice(manifest, manifest_sha256, "live", reason)
        announce(self.settings, notice)
        return notice

    def split_windows(self, notices: ReleaseNotices) -> DataWindow:
        """The windows of this run's events; see `models.retraining.windows`."""
        last_gated_ms = topics_io.last_gated_ms(notices.newest)
        trained_until_ms = 0 if self.parent is None else self.parent.manifest.window.gate_from
        window = split_windows(self.events, self.config.windows, last_gated_ms, trained_until_ms)
        require_users(self.events, window, self.config.rule.users)
        return window

    def gate_candidate(self, window: DataWindow, notices: ReleaseNotices, curves: OpenCurve) -> GatedRelease:
        """Train a candidate, compare it with what serves, announce what the gate decides, and write a report."""
        with new_release_folder(self.settings.releases_dir, notices.newest) as folder:
            with curves(folder.name) as curve:
                candidate = self.train(window, folder, curve)
            manifest = self.describe(candidate, folder, window)
            texts = item_text_vectors(Release(folder, manifest), self.items, self.settings.data_dir)
            co_visit = self.fit_co_visits(self.events.split(window.gate_from)[0])
            paired = self.evaluate(Release(folder, manifest), co_visit, texts)
            verdict = decide(paired, self.config.rule)
            manifest = msgspec.structs.replace(manifest, gate=verdict.numbers)
            manifest_sha256 = release.write(folder, manifest)

        self.publish_neighbours(co_visit, texts)
        notice = _gated_notice(manifest, manifest_sha256, verdict, notices.live)
        if verdict.accepted:
            go_live(self.settings, notice, notices.live)
        else:
            announce(self.settings, notice)
        report_path = release.report_path(self.settings.data_dir, manifest.id)
        write(Report(manifest, candidate, verdict, self.config.rule), report_path)
        return GatedRelease(notice, candidate, verdict, report_path)

    def describe(self, candidate: ReleaseCandidate, folder: Path, window: DataWindow) -> Manifest:
        """The candidate's manifest, without the gate's metrics."""
        parent_id = None if self.parent is None else self.parent.manifest.id
        manifest = candidate.manifest(folder.name, parent_id, topics_io.now_ms(), window, release.digests(folder))
        return msgspec.structs.replace(manifest, strategy=manifest.strategy | {"kind": self.kind.describe()})

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
                config=self.candidate_config,
                progress=progress,
                curve=curve,
            )

    def fit_co_visits(self, events: EventLog) -> CoVisitModel:
        """The co-visit model of some events."""
        with self.bar("Co-visit table", len(events)) as advance:
            return CoVisitModel.fit(events, self.candidate_config.co_visits, advance)

    def evaluate(self, candidate: Release, co_visit: CoVisitModel, text_vectors: Vectors) -> PairedRanks:
        """Rank the gate's window with release candidate, incumbent and co-visit model.

        `co_visit` was trained on the events before the window and is trained on the window too. Candidate and incumbent
        read the same co-visit table, as they would where they serve.
        """
        start = int(np.searchsorted(self.events.ts, candidate.manifest.window.gate_from))
        table = co_visit.table(self.neighbours, text_vectors)
        incumbent = None if self.incumbent is None else self._offline_ranker(self.incumbent, table)
        contenders = Contenders(self._offline_ranker(candidate, table), incumbent, co_visit)
        domains = [item.domain for item in self.items]
        with self.bar("Rank the gate's window", len(contenders) * len(self.events)) as advance:
            return evaluate_contenders(contenders, self.events, start, domains, advance)

    def publish_all_co_visits(self) -> None:
        """Publish the co-visit table of all events, by what serves; nothing if there are no events about items."""
        if not (self.events.item != NONE).any():
            return
        texts = None if self.parent is None else item_text_vectors(self.parent, self.items, self.settings.data_dir)
        self.publish_neighbours(self.fit_co_visits(self.events), texts)

    def publish_neighbours(self, co_visit: CoVisitModel, text_vectors: Vectors | None) -> None:
        """Publish the co-visit table. It does not depend on the gate's decision."""
        table = co_visit.table(self.neighbours, text_vectors)
        rows = _neighbour_messages(table, self.events.item_ids, topics_io.now_ms())
        with self.bar("Publish neighbours", len(table.item)) as advance:
            topics_io.publish_neighbours(self.settings, rows, advance)

    def _offline_ranker(self, files: Release, table: CoVisitTable) -> OfflineRanker:
        """A release as it would serve, with the co-visit table as it was before the gate's window."""
        item_ids = ItemVocabulary()
        live = load_servable(files, item_ids, self.items, self.settings.data_dir)
        policy = Policy.from_settings(self.settings, files.manifest.policy)
        return OfflineRanker(live, neighbour_table(table, item_ids, self.events, self.neighbours), item_ids, policy)


def _collect(settings: Settings, bar: Bar) -> tuple[EventLog, list[Item]]:
    """Bring the event store up to date, and read the catalogue: all events, and all items."""
    store = EventStore.open(settings.data_dir / "reshare" / "journal")
    with bar("Collect new events", None) as advance:
        topics_io.collect(settings, store, advance)
    with bar("Read the catalogue", None) as advance:
        items = topics_io.read_catalogue(settings)
        advance(len(items))
    return store.log([item.item_id for item in items]), items


def _notice(manifest: Manifest, manifest_sha256: str, status: ReleaseStatus, reason: str) -> ReleaseNotice:
    return ReleaseNotice(
        release=manifest.id,
        status=status,
        ts=topics_io.now_ms(),
        location=manifest.id,
        manifest_sha256=manifest_sha256,
        reason=reason,
    )


def _gated_notice(
    manifest: Manifest, manifest_sha256: str, verdict: Verdict, incumbent: ReleaseNotice | None
) -> ReleaseNotice:
    """The gate's decision. Its window is used up, unless it held too few users to decide anything."""
    notice = _notice(manifest, manifest_sha256, "live" if verdict.accepted else "rejected", verdict.reason)
    return msgspec.structs.replace(
        notice,
        parent=None if incumbent is None else incumbent.release,
        gate=verdict.numbers,
        gate_from=manifest.window.gate_from if verdict.findings else None,
        gate_to=manifest.window.gate_to if verdict.findings else None,
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
