"""All that a report tells."""

from __future__ import annotations

from dataclasses import dataclass, field

from anabranch.release import Manifest
from models.pipeline.release_candidate import ReleaseCandidate
from models.pipeline.release_gate import GateRule, Verdict


@dataclass(frozen=True)
class Report:
    """A release, how it was made, and what the gate said of it."""

    manifest: Manifest
    candidate: ReleaseCandidate
    verdict: Verdict | None = None
    """None: no gate has seen it."""
    rule: GateRule = field(default_factory=GateRule)
    """By which the verdict was reached."""
