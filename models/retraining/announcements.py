"""The messages in which a run of the retraining job publishes its results."""

from __future__ import annotations

import msgspec

from anabranch.messages import ReleaseNotice, ReleaseStatus
from anabranch.release import Manifest
from models.gate.release_gate import Verdict
from models.retraining import topics_io


def release_notice(manifest: Manifest, manifest_sha256: str, status: ReleaseStatus, reason: str) -> ReleaseNotice:
    """The notice of a release whose folder has its id for a name."""
    return ReleaseNotice(
        release=manifest.id,
        status=status,
        ts=topics_io.now_ms(),
        location=manifest.id,
        manifest_sha256=manifest_sha256,
        reason=reason,
    )


def gated_notice(
    manifest: Manifest, manifest_sha256: str, verdict: Verdict, incumbent: ReleaseNotice | None
) -> ReleaseNotice:
    """The gate's decision. Its window is used up, unless it held too few users to decide anything."""
    notice = release_notice(manifest, manifest_sha256, "live" if verdict.accepted else "rejected", verdict.reason)
    return msgspec.structs.replace(
        notice,
        parent=None if incumbent is None else incumbent.release,
        gate=verdict.announced,
        gate_from=manifest.window.gate_from if verdict.findings else None,
        gate_to=manifest.window.gate_to if verdict.findings else None,
    )
