"""One run of the retraining job: from new feedback on the topics to a release that is live or rejected.

`run_once` reads top to bottom: take the workspace, which no other run can have (`workspace`), collect new events
(`topics_io`), then the steps of `models.retraining.run`: announce a bootstrap release if none has served yet
(`models.pipeline.bootstrap_release`), split the events by time (`windows`), train a release candidate
(`models.pipeline.release_candidate`), rank the gate's window with every contender (`models.evaluation.contenders`),
decide (`models.gate.release_gate`), write a report (`models.report`), and publish the decision, and without
`live_neighbours` the co-visit table (`topics_io`).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from anabranch.kafka import clients
from anabranch.kafka.release_topic import read_release_notices
from anabranch.kafka.topics import Topics
from anabranch.messages import ReleaseNotice
from anabranch.release_notices import ReleaseNotices
from anabranch.settings import Settings
from models.co_visit.drift import TableChange
from models.data.event_log import NONE, NotEnoughData
from models.data.event_store import EventStore
from models.pipeline.data_kind import KindDecision
from models.retraining import topics_io
from models.retraining.run import GatedRelease, JobConfig, RetrainingRun
from models.retraining.workspace import open_workspace
from models.stages import Bar
from models.training_curves import OpenCurve, no_curves

log = logging.getLogger(__name__)


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


@dataclass(frozen=True)
class RunCallbacks:
    """What is called in a run."""

    begun: Callable[[], None] = lambda: None
    """Called once no other run can begin."""
    missed: Callable[[int], None] = lambda records: None
    """Called with the number of records that retention had deleted unread."""
    table_change: Callable[[TableChange], None] = lambda change: None
    """Called with what every new co-visit table does to the published one."""


def run_once(
    settings: Settings,
    config: JobConfig,
    bar: Bar,
    curves: OpenCurve = no_curves,
    callbacks: RunCallbacks = RunCallbacks(),
) -> RunResult:
    """Train a release candidate on the events so far, let the gate decide, report and announce the decision.

    Where no release has served yet, or a bootstrap release that does not fit the data, one is made and announced first;
    the candidate has to beat it. Without `live_neighbours` the co-visit table is published either way. Raises
    `NotEnoughData` if there is too little for a candidate and no bootstrap release was made, `ReleasesChanged` if
    somebody else announced a release meanwhile, and as `open_workspace` and `topics_io.collect` do.
    """
    with open_workspace(settings) as workspace:
        callbacks.begun()
        callbacks.missed(_collect(settings, workspace.store, bar))
        notices = read_release_notices(settings)
        run = RetrainingRun.open(settings, workspace, config, bar, notices.live)
        return _run(replace(run, show_table_change=callbacks.table_change), notices, curves)


def publish_co_visits(settings: Settings, config: JobConfig, bar: Bar) -> None:
    """Publish the co-visit table of all events so far, without training a release candidate."""
    with open_workspace(settings) as workspace:
        _collect(settings, workspace.store, bar)
        RetrainingRun.open(settings, workspace, config, bar, None).publish_all_co_visits()


def _collect(settings: Settings, store: EventStore, bar: Bar) -> int:
    """Bring the event store up to date; returns how many records retention had deleted unread."""
    clients.require_topics(settings)  # somebody may have added partitions since the run before
    with bar("Collect new events", None) as advance:
        return topics_io.collect(settings, store, advance).missed


def _warn_without_neighbours(run: RetrainingRun, notices: ReleaseNotices) -> None:
    """Without a co-visit table rankers rank, but much worse. Before the first release there is no rule to count by."""
    topic, has_visits = Topics(run.settings).neighbours, bool((run.events.item != NONE).any())
    waits = notices.live is None or not has_visits
    if run.settings.live_neighbours and not waits and topics_io.is_empty(run.settings, topic):
        log.warning(
            "there are events, and nothing on %s: start `anabranch neighbours`, which publishes the co-visit table as "
            "events come, or set live_neighbours=false, and `reshare` publishes it",
            topic,
        )


def _run(run: RetrainingRun, notices: ReleaseNotices, curves: OpenCurve) -> RunResult:
    """The steps after the collection. No other run announces a release while this one has the workspace."""
    started = time.monotonic()
    _warn_without_neighbours(run, notices)
    bootstrap = None
    reason = run.reason_for_bootstrap(notices)
    if reason is not None:
        bootstrap = run.announce_bootstrap(notices, reason)
        notices.add(bootstrap)
        run = run.with_incumbent(bootstrap)
    try:
        gated, waiting_for = run.gate_candidate(run.split_windows(notices), notices, curves), None
    except NotEnoughData as error:
        if bootstrap is None:
            run.publish_all_co_visits()
            raise
        gated, waiting_for = None, str(error)
    return RunResult(run.kind, len(run.events), time.monotonic() - started, bootstrap, gated, waiting_for)
