"""What a process knows of releases: their notices, which of them ranks here, and how the gate decided."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from msgspec import Meta, Struct

from anabranch import release
from anabranch.messages import ReleaseNotice
from anabranch.release import DataWindow, Manifest, ReleaseError
from consumers.releases.release_source import AnnouncedRelease
from consumers.replica.replica import Replica

MAX_RELEASES = 200


class ReleaseListParameters(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Of `GET /v1/releases`."""

    limit: Annotated[int, Meta(ge=1, le=MAX_RELEASES)] = 20
    """So many of the releases that were announced last."""


class ReleaseFigures(Struct, frozen=True, kw_only=True):
    """What the manifest of a release says of it, without the hashes of its files."""

    created: int
    """Milliseconds since 1970."""
    strategy: dict[str, Any]
    """How it was trained."""
    seeds: list[str]
    """The seed models that taught it."""
    window: DataWindow
    """The events that it learned from, and those that the gate tested it on."""
    gate: dict[str, float]
    """Figures of the gate."""
    findings: list[dict[str, Any]]
    """Every test of the gate."""
    heads: dict[str, dict[str, Any]]
    """Measurements of its optional heads."""

    @classmethod
    def of_manifest(cls, manifest: Manifest) -> ReleaseFigures:
        """The part of a manifest that an operator reads."""
        return cls(
            created=manifest.created,
            strategy=manifest.strategy,
            seeds=manifest.seeds,
            window=manifest.window,
            gate=manifest.gate,
            findings=manifest.findings,
            heads=manifest.heads,
        )


class ListedRelease(Struct, frozen=True, kw_only=True):
    """A release on the topic `releases`."""

    release: str
    """Its id."""
    is_serving: bool
    """Whether this process ranks with it now."""
    notice: ReleaseNotice
    """The newest one on the topic."""
    problem: str | None
    """Why it cannot serve in this process; null: nothing is known against it."""
    manifest: ReleaseFigures | None
    """Null if its folder cannot be read here: `problem` says why."""


class ReleasesAnswer(Struct, frozen=True, kw_only=True):
    """The answer to `GET /v1/releases`."""

    serving: str | None
    """The release that ranks in this process; null: none does yet."""
    releases: list[ListedRelease]
    """The one that was announced first comes last."""


class ReleaseList:
    """The releases as a replica knows them."""

    def __init__(self, replica: Replica, releases_dir: Path) -> None:
        self._replica = replica
        self._releases_dir = releases_dir

    def newest(self, limit: int) -> ReleasesAnswer:
        """The `limit` releases that were announced last. Reads their manifests, so the event loop must not call it."""
        live = self._replica.model.live
        serving = None if live is None else live.manifest.id
        announced = self._replica.announced_releases()[::-1][:limit]
        return ReleasesAnswer(serving=serving, releases=[self._listed(entry, serving) for entry in announced])

    def _listed(self, announced: AnnouncedRelease, serving: str | None) -> ListedRelease:
        notice, problem = announced
        figures: ReleaseFigures | None = None
        try:
            figures = ReleaseFigures.of_manifest(release.open_announced(self._releases_dir, notice).manifest)
        except ReleaseError as error:
            problem = problem or str(error)
        return ListedRelease(
            release=notice.release,
            is_serving=notice.release == serving,
            notice=notice,
            problem=problem,
            manifest=figures,
        )
