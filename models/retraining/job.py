"""One run of the job: new feedback in, a candidate made, the gate asked, its word announced."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import numpy as np

from anabranch import release
from anabranch.messages import Item, Neighbours, RankedItem, ReleaseNotice
from anabranch.ranking.policy import Policy
from anabranch.ranking.types import Vectors
from anabranch.ranking.vocabulary import ItemIds
from anabranch.release import DataWindow, Release
from anabranch.settings import Settings
from models.co_visit.model import CoVisitModel
from models.co_visit.table import CoVisitTable
from models.data.event_log import EventLog
from models.data.event_store import EventStore
from models.evaluation.protocols import Trial, run_trial
from models.offline.offline_ranker import OfflineRanker, item_text_vectors, load_servable, neighbour_table
from models.pipeline.candidate import CandidateConfig, CandidateReport, make_candidate
from models.pipeline.release_gate import GateRule, Verdict, decide
from models.report.page import write
from models.report.report import Report
from models.retraining import topics_io
from models.retraining.windows import DAY_MS, TooLittleFresh, Windows, cut
from models.stages import Bar, bar_by_stage
from models.training_curves import Curve, OpenCurve, no_curves


@dataclass(frozen=True)
class JobConfig:
    """What a run is told besides the settings."""

    windows: Windows = field(default_factory=Windows)
    candidate: CandidateConfig = field(default_factory=CandidateConfig)
    rule: GateRule = field(default_factory=GateRule)


@dataclass(frozen=True)
class Outcome:
    """What became of a run."""

    notice: ReleaseNotice
    report: CandidateReport
    verdict: Verdict
    events: int
    seconds: float
    page: Path
    """The report, for people."""


def run_once(settings: Settings, config: JobConfig, bar: Bar, curves: OpenCurve = no_curves) -> Outcome:
    """Make a candidate, let the gate decide, announce it, and leave a report of it all.

    Raises `TooLittleData` where the events collected so far do not fill the windows; where only the gate's is too
    short, the neighbours are published before."""
    started = time.monotonic()
    announced = topics_io.notices(settings)
    incumbent = topics_io.live(announced)
    events, items = _gather(settings, incumbent is not None, bar)
    parent = None if incumbent is None else release.announced(settings.releases_dir, incumbent)
    learned_to = 0 if parent is None else parent.manifest.window.gate_from
    try:
        window = cut(events, config.windows, topics_io.used_to(announced), learned_to)
    except TooLittleFresh:
        texts = None if parent is None else item_text_vectors(parent, items, settings.data_dir)
        _publish_neighbours(settings, _co_visit(config, events, bar), texts, events.item_ids, bar)
        raise
    name = f"r{len(announced) + 1:04d}"

    folder = settings.releases_dir / name
    with curves(name) as curve:
        report = _make(settings, config, events, items, window, parent, folder, bar, curve)
    of = None if incumbent is None else incumbent.release
    manifest = report.manifest(name, of, topics_io.now_ms(), window, release.digests(folder))
    made = Release(folder, manifest)
    texts = item_text_vectors(made, items, settings.data_dir)
    co_visit, trial = _hold_trial(settings, config, events, items, texts, made, parent, bar)
    verdict = decide(trial, config.rule)
    manifest = msgspec.structs.replace(manifest, gate=verdict.numbers)
    manifest_sha256 = release.write(folder, manifest)

    _publish_neighbours(settings, co_visit, texts, events.item_ids, bar)
    notice = ReleaseNotice(
        release=name,
        status="live" if verdict.accepted else "rejected",
        ts=topics_io.now_ms(),
        location=name,
        manifest_sha256=manifest_sha256,
        parent=manifest.parent,
        reason=verdict.reason,
        gate=verdict.numbers,
        gate_from=window.gate_from,
        gate_to=window.gate_to,
    )
    topics_io.announce(settings, notice)
    if verdict.accepted and incumbent is not None:
        topics_io.announce(settings, _retired(incumbent))
    page = release.report_path(settings.data_dir, name)
    write(Report(manifest, report, verdict, config.rule), page)
    return Outcome(notice, report, verdict, len(events), time.monotonic() - started, page)


def renew_neighbours(settings: Settings, config: JobConfig, bar: Bar) -> None:
    """Publish the neighbours of all events so far, and make no candidate."""
    events, _ = _gather(settings, released=False, bar=bar)
    _publish_neighbours(settings, _co_visit(config, events, bar), None, events.item_ids, bar)


def _gather(settings: Settings, released: bool, bar: Bar) -> tuple[EventLog, list[Item]]:
    """All events known, their item numbers rows of the catalogue first, and the catalogue."""
    journal = EventStore.open(settings.data_dir / "reshare" / "journal")
    with bar("Collect what is new", None) as advance:
        topics_io.collect(settings, journal, released, advance)
    with bar("Read the catalogue", None) as advance:
        items = topics_io.catalogue(settings)
        advance(len(items))
    return journal.log([item.item_id for item in items]), items


def _make(
    settings: Settings,
    config: JobConfig,
    events: EventLog,
    items: Sequence[Item],
    window: DataWindow,
    parent: Release | None,
    folder: Path,
    bar: Bar,
    curve: Curve,
) -> CandidateReport:
    """The candidate's files, from the events before the gate's window."""
    if folder.exists():
        shutil.rmtree(folder)  # what a run that died before announcing left
    with bar_by_stage(bar) as progress:
        return make_candidate(
            events.split(window.gate_from)[0],
            items,
            parent,
            folder,
            order_from=window.order_from,
            purchases_from=window.gate_from - int(config.windows.order_days * DAY_MS),
            cache=settings.data_dir,
            config=config.candidate,
            new_since_ms=0 if parent is None else parent.manifest.window.gate_from,
            progress=progress,
            curve=curve,
        )


def _hold_trial(
    settings: Settings,
    config: JobConfig,
    events: EventLog,
    items: Sequence[Item],
    text_vectors: Vectors,
    made: Release,
    parent: Release | None,
    bar: Bar,
) -> tuple[CoVisitModel, Trial]:
    """Candidate, incumbent and co-visit table on the gate's window; and the table, having learned all events."""
    start = int(np.searchsorted(events.ts, made.manifest.window.gate_from))
    co_visit = _co_visit(config, events.take(slice(0, start)), bar)
    table = co_visit.table(settings.neighbours, text_vectors)  # both read texts alike: a child keeps the transformer
    candidate = _ranker(settings, made, items, table, events)
    incumbent = None if parent is None else _ranker(settings, parent, items, table, events)
    contenders = 2 if incumbent is None else 3
    domains = [item.domain for item in items]
    with bar("Trial at the gate", contenders * len(events)) as advance:
        return co_visit, run_trial(candidate, incumbent, co_visit, events, start, advance, domains)


def _co_visit(config: JobConfig, events: EventLog, bar: Bar) -> CoVisitModel:
    with bar("Co-visit table", len(events)) as advance:
        return CoVisitModel.fit(events, config.candidate.co_visits, advance)


def _ranker(
    settings: Settings, files: Release, items: Sequence[Item], table: CoVisitTable, events: EventLog
) -> OfflineRanker:
    """A release as it would serve, with the neighbours as they were before the gate's window."""
    item_ids = ItemIds()
    live = load_servable(files, item_ids, items, settings.data_dir)
    policy = Policy.of(settings)
    return OfflineRanker(live, neighbour_table(table, item_ids, events, policy.neighbours), item_ids, policy)


def _publish_neighbours(
    settings: Settings, co_visit: CoVisitModel, text_vectors: Vectors | None, item_ids: Sequence[str], bar: Bar
) -> None:
    """The co-visit table of all events so far: data, and so published whatever becomes of a candidate."""
    table = co_visit.table(settings.neighbours, text_vectors)
    ts = topics_io.now_ms()
    rows = (
        Neighbours(
            item_id=item_ids[item],
            neighbours=[
                RankedItem(item_ids[neighbour], float(share))
                for neighbour, share in zip(table.neighbours[at].tolist(), table.share[at].tolist(), strict=True)
                if neighbour >= 0
            ],
            popularity=float(table.popularity[at]),
            first_seen=int(table.first_seen[at]),
            repeat_rate=float(table.repeat_rate[at]),
            ts=ts,
        )
        for at, item in enumerate(table.item.tolist())
    )
    with bar("Publish neighbours", len(table.item)) as advance:
        topics_io.publish_neighbours(settings, rows, advance)


def _retired(incumbent: ReleaseNotice) -> ReleaseNotice:
    return msgspec.structs.replace(incumbent, status="retired", ts=topics_io.now_ms())
