"""The data of a report."""

from __future__ import annotations

from dataclasses import dataclass, field

from anabranch.release import Manifest
from models.co_visit.drift import TableChange
from models.gate.release_gate import GateRule, Verdict
from models.pipeline.release_candidate import ReleaseCandidate


@dataclass(frozen=True)
class Report:
    """A release, how it was trained, and the gate's verdict."""

    manifest: Manifest
    candidate: ReleaseCandidate
    verdict: Verdict | None = None
    """None: no gate has judged it."""
    rule: GateRule = field(default_factory=GateRule)
    """The rule behind the verdict."""
    table_change: TableChange | None = None
    """What the co-visit table that is published with the decision changes."""
