"""The data of one run of the retraining job, and the steps that the run takes."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Self

import msgspec
import numpy as np

from anabranch import release
from anabranch.co_visit.table import neighbour_messages
from anabranch.co_visit.text_prior import TextPrior
from anabranch.errors import AnabranchError
from anabranch.kafka.release_topic import announce, go_live, read_release_notices
from anabranch.messages import Item, Neighbours, ReleaseNotice
from anabranch.release import DataWindow, Manifest, Release
from anabranch.release_notices import ReleaseNotices
from anabranch.settings import Settings
from models.co_visit.drift import TableChange, kept_share
from models.co_visit.model import CoVisitModel
from models.co_visit.text_neighbours import text_neighbours
from models.data.event_log import DAY_MS, NONE, EventLog
from models.evaluation.off_policy import ExposedEvents, exposure_estimate
from models.gate.release_gate import GateRule, Verdict, decide
from models.gate.requirements import requirements
from models.gate.window import ComparedWith, GateWindow
from models.metrics.bootstrap import Interval
from models.offline.catalogue_history import CatalogueHistory, ItemVersion, newest_versions
from models.offline.offline_ranker import item_text_vectors
from models.pipeline.bootstrap_release import BootstrapInputs, make_bootstrap_release
from models.pipeline.config import PipelineInputs, ReleaseCandidateConfig
from models.pipeline.data_kind import KindDecision, find_kind
from models.pipeline.forgotten_items import forgotten_items
from models.pipeline.presets import Kind, preset
from models.pipeline.release_candidate import ReleaseCandidate, make_release_candidate
from models.report.page import write
from models.report.report import Report
from models.retraining import topics_io
from models.retraining.announcements import gated_notice, release_notice
from models.retraining.published_co_visits import NewCoVisits, PublishedCoVisits
from models.retraining.servable_releases import earlier_releases, open_incumbent
from models.retraining.windows import WindowLengths, require_users, split_windows
from models.retraining.workspace import Workspace
from models.stages import Bar, Stages, bar_by_stage
from models.training_curves import Curve, OpenCurve, no_curve

log = logging.getLogger(__name__)


class ReleasesChanged(AnabranchError):
    """Somebody else announced a release while this run made its own."""


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
class RetrainingRun:
    """The data of one run, and its steps."""

    settings: Settings
    workspace: Workspace
    config: JobConfig
    bar: Bar
    events: EventLog
    """All events; their item numbers are rows of `items`, then of items that left the catalogue."""
    items: list[Item]
    catalogue: CatalogueHistory
    """How the items changed."""
    kind: KindDecision
    candidate_config: ReleaseCandidateConfig
    incumbent: Release | None
    """The live release; None if there is none that this version can serve."""
    unservable: str | None = None
    """Why the live release cannot serve, if it cannot."""
    show_table_change: Callable[[TableChange], None] = lambda change: None
    """Called with what every new co-visit table does to the published one."""

    @classmethod
    def open(
        cls, settings: Settings, workspace: Workspace, config: JobConfig, bar: Bar, live: ReleaseNotice | None
    ) -> Self:
        """Read the event store and the items, and find the kind of data."""
        incumbent, unservable = open_incumbent(settings, live)
        versions = _read_catalogue(settings, bar)
        items = newest_versions(versions)
        events = workspace.store.log([item.item_id for item in items])
        kind = find_kind(events) if config.kind is None else KindDecision.named(config.kind)
        log.info("kind of data: %s (%s)", kind.kind, kind.reason)
        candidate = config.candidate_of(kind.kind).for_rankers(settings)
        if (forgotten := forgotten_items(events, candidate)) is not None:
            log.warning(forgotten)
        catalogue = CatalogueHistory.from_versions(versions)
        return cls(settings, workspace, config, bar, events, items, catalogue, kind, candidate, incumbent, unservable)

    def with_incumbent(self, notice: ReleaseNotice) -> Self:
        """The same, after a release went live."""
        return replace(self, incumbent=release.open_announced(self.settings.releases_dir, notice), unservable=None)

    @property
    def parent(self) -> Release | None:
        """The release whose weights training starts from; a bootstrap release has none that were learned."""
        return None if self.incumbent is None or self.incumbent.manifest.is_bootstrap else self.incumbent

    @property
    def job_folder(self) -> Path:
        """What the job remembers between its runs."""
        return self.settings.data_dir / "reshare"

    @property
    def rule(self) -> GateRule:
        """The gate's rule, with the slices that the settings tolerate losses on."""
        named = [name.strip() for name in self.settings.gate_tolerates.split(",")]
        return replace(self.config.rule, tolerates=frozenset(filter(None, named)))

    @property
    def neighbours(self) -> int:
        """Width of the co-visit table, which all releases share."""
        return self.candidate_config.policy.neighbours

    def reason_for_bootstrap(self, notices: ReleaseNotices) -> str | None:
        """Why a bootstrap release is needed; None if it is not.

        Where the live release cannot serve in this version, it must not stand in the way of one that can. A bootstrap
        release that was made of too little to find the kind of data, or the words of the catalogue, gives way as well.
        """
        if not notices.any_served:
            return "no release served yet; it ranks until a trained release is better"
        if self.unservable is not None:
            return (
                f"the live release cannot serve ({self.unservable}); this one ranks until a trained release is better"
            )
        if self.incumbent is None or not self.incumbent.manifest.is_bootstrap:
            return None
        manifest = self.incumbent.manifest
        kind, texts = manifest.strategy["kind"]["name"], manifest.strategy["measured"]["texts"]
        if kind != self.kind.kind:
            return f"the data is of kind {self.kind.kind}, and {manifest.id} was made for {kind}"
        return f"{manifest.id} was made before there were items" if not texts and self.items else None

    def announce_bootstrap(self, notices: ReleaseNotices, reason: str) -> ReleaseNotice:
        """Make a bootstrap release, publish the co-visit table if that is this job's, and announce it live."""
        with self.workspace.new_release_folder(notices.newest) as folder:
            with bar_by_stage(self.bar) as progress, Stages(progress, no_curve)("bootstrap release") as done:
                manifest = make_bootstrap_release(
                    BootstrapInputs(self.events, self.items, self.kind, reason),
                    folder,
                    cache=self.settings.data_dir,
                    config=self.candidate_config,
                    done=done,
                )
            self._require_no_other_announcement(notices)
            manifest_sha256 = release.write(folder, manifest)
        self.publish_all_co_visits()
        notice = release_notice(manifest, manifest_sha256, "live", reason)
        if notices.live is not None:  # rankers of the version that made it may go on with it
            notice = msgspec.structs.replace(notice, parent=notices.live.release)
        go_live(self.settings, notice, notices.live)
        return notice

    def split_windows(self, notices: ReleaseNotices) -> DataWindow:
        """The windows of this run's events; see `models.retraining.windows`."""
        last_gated_ms = topics_io.last_gated_ms(notices.newest)
        trained_until_ms = 0 if self.parent is None else self.parent.manifest.window.gate_from
        window = split_windows(self.events, self.config.windows, last_gated_ms, trained_until_ms)
        require_users(self.events, window, self.rule.users)
        return window

    def gate_candidate(self, window: DataWindow, notices: ReleaseNotices, curves: OpenCurve) -> GatedRelease:
        """Train a candidate, compare it with what serves, report and announce what the gate decides."""
        with self.workspace.new_release_folder(notices.newest) as folder:
            with curves(folder.name) as curve:
                candidate = self.train(window, folder, curve)
            manifest = self.describe(candidate, folder, window)
            gate, files = self.gate_window(window.gate_from), Release(folder, manifest)
            co_visit = self.fit_co_visits(self.events.split(window.gate_from)[0], candidate.text_neighbours)
            published = {} if self.settings.live_neighbours else topics_io.read_neighbours(self.settings)
            harm = self.harm_of_co_visits(window, candidate.text_neighbours, published)
            table = gate.fitted(co_visit) if harm is None else gate.published(published)
            earlier, propensity = earlier_releases(self.settings, notices), self.workspace.store.propensities()
            paired = gate.rank(files, ComparedWith(co_visit, table, candidate.seed_models, earlier, propensity))
            exposed = ExposedEvents.from_paired(paired)
            exposure = None if exposed is None else exposure_estimate(exposed, self.rule.samples)
            heads = {} if self.incumbent is None else self.incumbent.manifest.heads
            verdict = decide(paired, self.rule, exposure, requirements(paired, manifest.heads, heads))
            findings = [msgspec.to_builtins(finding) for finding in verdict.findings]
            manifest = msgspec.structs.replace(manifest, gate=verdict.numbers, findings=findings)
            self._require_no_other_announcement(notices)
            manifest_sha256 = release.write(folder, manifest)

        report_path = release.report_path(self.settings.data_dir, manifest.id)
        new = None if self.settings.live_neighbours else self.compare_with_published(co_visit, published, harm)
        write(Report(manifest, candidate, verdict, self.rule, None if new is None else new.change), report_path)
        if new is not None:
            self.publish_neighbours(new)
        notice = gated_notice(manifest, manifest_sha256, verdict, notices.live)
        if verdict.accepted:
            go_live(self.settings, notice, notices.live)
        else:
            announce(self.settings, notice)
        return GatedRelease(notice, candidate, verdict, report_path)

    def _require_no_other_announcement(self, notices: ReleaseNotices) -> None:
        """Raise `ReleasesChanged` if the live release, or the gate's last window, is not what this run began with."""
        now = read_release_notices(self.settings)
        ours, theirs = (_standing(known) for known in (notices, now))
        if theirs != ours:
            raise ReleasesChanged(
                f"a release was announced during this run, by an operator or by a job on another machine (live is now "
                f"{theirs[0]}): this run announces nothing, and the next one begins with what is live then"
            )

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
            catalogue=self.catalogue,
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

    def fit_co_visits(self, events: EventLog, texts: TextPrior) -> CoVisitModel:
        """The co-visit model of some events; `texts` are the neighbours by text of the items."""
        with self.bar("Co-visit table", len(events)) as advance:
            return self.candidate_config.co_visit_model(texts).fit(events, advance)

    def harm_of_co_visits(
        self, window: DataWindow, texts: TextPrior, published: Mapping[str, Neighbours]
    ) -> Interval | None:
        """What newer co-visits do to the incumbent, if they lower its figures by more than a margin; else None.

        Of the window's events that the published table has not learned, the co-visits learn the first half, and the
        incumbent ranks the second half with either: neither has learned what is ranked.
        """
        table = PublishedCoVisits.read(self.job_folder)
        if table is None or self.incumbent is None or self.settings.live_neighbours:
            return None
        split_ms = (max(window.gate_from, table.learned_until_ms) + window.gate_to) // 2
        newer = self.fit_co_visits(self.events.split(split_ms)[0], texts)
        return self.gate_window(split_ms).harm_of(newer, published)

    def gate_window(self, from_ms: int) -> GateWindow:
        """The events from a time on, on which releases are compared."""
        return GateWindow(
            settings=self.settings,
            log=self.events,
            start=int(np.searchsorted(self.events.ts, from_ms)),
            items=self.items,
            config=self.candidate_config,
            incumbent=self.incumbent,
            bar=self.bar,
            catalogue=self.catalogue,
        )

    def publish_all_co_visits(self) -> None:
        """Publish the co-visit table of all events, by what serves; nothing if there are no events about items, where
        `anabranch neighbours` does, or if the newest gate held a table back: only a gate can find that it does no harm.
        """
        if self.settings.live_neighbours or not (self.events.item != NONE).any():
            return
        table_before = PublishedCoVisits.read(self.job_folder)
        if table_before is not None and table_before.is_held_back:
            log.warning("co-visit table: the published one stays until a gate finds that a newer one does no harm")
            return
        texts = None if self.parent is None else item_text_vectors(self.parent, self.items, self.settings.data_dir)
        co_visit = self.fit_co_visits(self.events, text_neighbours(self.candidate_config.co_visits, texts))
        self.publish_neighbours(self.compare_with_published(co_visit, topics_io.read_neighbours(self.settings)))

    def compare_with_published(
        self, co_visit: CoVisitModel, published: Mapping[str, Neighbours], harm: Interval | None = None
    ) -> NewCoVisits:
        """The table of a co-visit model of all events, and what it does to the published one."""
        table = co_visit.table(self.neighbours)
        share = kept_share(published, neighbour_messages(table, self.events.item_ids, topics_io.now_ms()))
        change = TableChange(share, len(co_visit.unusual_users), harm)
        log.log(logging.INFO if harm is None else logging.WARNING, "co-visit table: %s", change)
        self.show_table_change(change)
        return NewCoVisits(table, change)

    def publish_neighbours(self, new: NewCoVisits) -> None:
        """Publish a co-visit table, whatever the gate decides of a release; hold one back that does harm."""
        if new.change.harm is not None:
            PublishedCoVisits.hold_newer_back(self.job_folder)
            return
        rows = neighbour_messages(new.table, self.events.item_ids, topics_io.now_ms())
        with self.bar("Publish neighbours", len(new.table.item)) as advance:
            topics_io.publish_neighbours(self.settings, rows, advance)
        PublishedCoVisits(learned_until_ms=int(self.events.ts[-1]) + 1).write(self.job_folder)


def _standing(notices: ReleaseNotices) -> tuple[str | None, int]:
    """The live release, and the end of the gate's last window."""
    live = notices.live
    return None if live is None else live.release, topics_io.last_gated_ms(notices.newest)


def _read_catalogue(settings: Settings, bar: Bar) -> list[ItemVersion]:
    with bar("Read the catalogue", None) as advance:
        versions = list(topics_io.read_item_versions(settings))
        advance(len(versions))
    return versions
