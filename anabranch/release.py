"""Releases: immutable folders with the models that serve. Open one, read its files with their sha256 checked, write."""

from __future__ import annotations

import hashlib
import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import msgspec
from msgspec import Struct

from anabranch import private_files
from anabranch.co_visit_rule import CoVisitRule
from anabranch.co_visit_scoring import CoVisitScoring
from anabranch.durable_files import sync, sync_files, write_durably
from anabranch.errors import AnabranchError
from anabranch.indented_json import format_json
from anabranch.messages import ReleaseNotice

MANIFEST = "manifest.json"
REQUIRED_FILES = ("text.onnx", "tokenizer.json", "item.onnx", "items.json", "step.onnx", "order.onnx")
GATES, READOUT = "gates.onnx", "readout.onnx"
"""The two halves of step.onnx, if the user encoder is a gated linear recurrence; optional."""
PURCHASE_HEAD = "purchase.onnx"
"""An optional head."""
BOOTSTRAP = "bootstrap"
"""Name of the strategy of a release that was made without training."""
MAX_MANIFEST_BYTES = 1 << 20
MAX_FILE_BYTES = 1 << 30
"""A file is read into memory as a whole. The largest, item.onnx, grows with the catalogue: it has 1 GiB for two million
items of 128 dimensions. Protobuf, and so ONNX, limits a file to 2 GiB in any case."""
MAX_FILES = 32
"""A release has about twelve files."""
FILE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}")


class ReleaseError(AnabranchError):
    """A folder that must not serve: it is incomplete, altered, or not a release."""


class DataWindow(Struct, frozen=True, kw_only=True):
    """The events of a release, by their time in ms UTC.

    Those in [train_from, order_from) trained the encoder, and those in [order_from, gate_from) the list ranker. The
    gate evaluated the release on [gate_from, gate_to), which no training had used before; it uses a window once.
    """

    train_from: int
    order_from: int
    gate_from: int
    gate_to: int
    events: int


class ReleasePolicy(Struct, frozen=True, kw_only=True):
    """How a release is meant to serve; it follows from the kind of data that it was trained for.

    The settings of the same names go before it.
    """

    exclude_seen: bool = False
    allow_session_repeats: bool = False
    neighbours: int = 20
    co_visit_scoring: CoVisitScoring = CoVisitScoring()
    """How the list ranker's co-visit features add up. No setting goes before it: the list ranker learned from it."""


class Manifest(Struct, frozen=True, kw_only=True):
    """The properties of a release, how it was trained, and the sha256 of its files."""

    id: str
    parent: str | None
    created: int
    """ms UTC."""
    dims: int
    state_dims: int
    text_dims: int
    features: list[str]
    """Names of the input features of order.onnx, in order."""
    seeds: list[str]
    strategy: dict[str, Any]
    window: DataWindow
    parity: dict[str, float]
    """By ONNX file, the largest absolute difference between its output and that of the PyTorch model."""
    gate: dict[str, float]
    files: dict[str, str]
    """sha256 in hex by file name, for every file except the manifest."""
    heads: dict[str, dict[str, Any]] = {}
    """Measurements of each optional head in the release, by its name: `purchase`."""
    policy: ReleasePolicy = ReleasePolicy()
    co_visits: CoVisitRule | None = None
    """How the co-visits that it reads are counted; None: an earlier version made it."""
    findings: list[dict[str, Any]] = []
    """Every test of the gate, as `models.gate.findings.Finding` has it."""

    @property
    def is_bootstrap(self) -> bool:
        """Whether it was made without training, so that something serves until a trained release beats it."""
        return self.strategy.get("name") == BOOTSTRAP


class ArtifactReader(Protocol):
    """Reads the files of a folder. Models are loaded from the bytes that it returns, so no file is read twice."""

    @property
    def folder(self) -> Path:
        """The folder, for messages."""

    def read(self, name: str) -> bytes:
        """A file's bytes. Raises `ReleaseError`."""


@dataclass(frozen=True)
class Release:
    """A release that may serve: every file is checked against the manifest when it is read."""

    folder: Path
    manifest: Manifest

    def read(self, name: str) -> bytes:
        """A file's bytes. Raises `ReleaseError` with the file's name if it does not match its sha256."""
        expected = self.manifest.files.get(name)
        if expected is None:
            raise ReleaseError(f"release {self.manifest.id} lists no {name} in its manifest")
        payload = _read(self.folder, name, MAX_FILE_BYTES)
        if hashlib.sha256(payload).hexdigest() != expected:
            raise ReleaseError(f"release {self.manifest.id}: {name} does not match its sha256 in the manifest")
        return payload

    def verify(self) -> None:
        """Read every file. Raises `ReleaseError` with the name of the first that does not match its sha256."""
        for name in self.manifest.files:
            self.read(name)


@dataclass(frozen=True)
class UnverifiedRelease:
    """A folder that this process is still writing: there is no manifest to check its files against."""

    folder: Path

    def read(self, name: str) -> bytes:
        """A file's bytes, unchecked. Raises `ReleaseError` if it cannot be read."""
        return _read(self.folder, name, MAX_FILE_BYTES)


def open_release(folder: Path) -> Release:
    """The release in a folder. Raises `ReleaseError` unless its manifest is valid and lists all `REQUIRED_FILES`."""
    return Release(folder, _decode_manifest(folder, _read_manifest(folder)))


def open_announced(releases_dir: Path, notice: ReleaseNotice) -> Release:
    """The release that a notice announces.

    Raises `ReleaseError` as `open_release` does, and if the folder holds another release or another manifest.
    """
    folder = folder_of(releases_dir, notice.location)
    payload = _read_manifest(folder)
    manifest = _decode_manifest(folder, payload)
    if manifest.id != notice.release:
        raise ReleaseError(f"{folder} holds release {manifest.id}, not {notice.release}")
    if hashlib.sha256(payload).hexdigest() != notice.manifest_sha256:
        raise ReleaseError(f"the manifest in {folder} is not the one announced for {notice.release}")
    return Release(folder, manifest)


def write(folder: Path, manifest: Manifest) -> str:
    """Write the manifest, once all files of the folder are written. Returns the manifest's sha256 in hex.

    On return the whole release is on the disk: announce it afterwards, and no power loss leaves a notice without it.
    """
    payload = format_json(manifest)
    sync_files(folder)
    write_durably(folder / MANIFEST, payload)
    private_files.share(folder)
    sync(folder.parent)
    return hashlib.sha256(payload).hexdigest()


def digest(path: Path) -> str:
    """The file's sha256, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digests(folder: Path) -> dict[str, str]:
    """sha256 of every file of a folder except the manifest. Raises `ReleaseError` for a file over `MAX_FILE_BYTES`."""
    files = [path for path in sorted(folder.iterdir()) if path.name != MANIFEST]
    for path in files:
        _require_size(path, path.stat().st_size, MAX_FILE_BYTES)
    return {path.name: digest(path) for path in files}


def folder_of(releases_dir: Path, location: str) -> Path:
    """The folder at the location in a notice. Raises `ReleaseError` if it is not directly in `releases_dir`."""
    if Path(location).name != location or location in ("", ".", ".."):
        raise ReleaseError(f"location {location!r} is not the name of a folder under {releases_dir}")
    return releases_dir / location


def report_path(data_dir: Path, release_id: str) -> Path:
    """Path of a release's report. It is not in the release folder, which never changes."""
    return data_dir / "reports" / f"{release_id}.html"


def folders(releases_dir: Path) -> list[Path]:
    """Every release folder, the oldest first, by name."""
    return sorted(path.parent for path in releases_dir.glob(f"*/{MANIFEST}"))


def _read_manifest(folder: Path) -> bytes:
    if not folder.exists():
        raise ReleaseError(f"{folder} does not exist: is releases_dir the folder that `anabranch reshare` writes to?")
    return _read(folder, MANIFEST, MAX_MANIFEST_BYTES)


def _decode_manifest(folder: Path, payload: bytes) -> Manifest:
    try:
        manifest = msgspec.json.decode(payload, type=Manifest)
    except msgspec.DecodeError as error:
        raise ReleaseError(f"{folder / MANIFEST}: {error}") from error
    missing = [name for name in REQUIRED_FILES if name not in manifest.files]
    if missing:
        raise ReleaseError(f"release {manifest.id} lists no {', '.join(missing)} in its manifest")
    if len(manifest.files) > MAX_FILES:
        raise ReleaseError(
            f"release {manifest.id} lists {len(manifest.files)} files: a release has {MAX_FILES} at most"
        )
    for name in manifest.files:
        if FILE_NAME.fullmatch(name) is None or name == MANIFEST:
            raise ReleaseError(f"release {manifest.id} names {name!r}, which is not a file of its own folder")
    return manifest


def _read(folder: Path, name: str, limit: int) -> bytes:
    """A regular file, without following links. If it is replaced meanwhile, the file that was opened is read."""
    path = folder / name
    try:
        with open(path, "rb", opener=_open_without_links) as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise ReleaseError(f"{path} is not a regular file")
            _require_size(path, status.st_size, limit)
            payload = file.read(status.st_size + 1)
    except OSError as error:
        link = next((entry for entry in (folder, path) if entry.is_symlink()), None)
        reason = f"{path} cannot be read: {error.strerror}" if link is None else f"{link} is a symbolic link"
        raise ReleaseError(f"{reason}; a release must be a folder of regular files") from error
    if len(payload) != status.st_size:
        raise ReleaseError(f"{path} changed while it was read: a release must not change")
    return payload


def _open_without_links(path: str, flags: int) -> int:
    """An opener that refuses symbolic links, for the file and its folder, and does not block on a pipe."""
    folder, name = os.path.split(path)
    folder_fd = os.open(folder or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        return os.open(name, flags | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder_fd)
    finally:
        os.close(folder_fd)


def _require_size(path: Path, size: int, limit: int) -> None:
    if size > limit:
        raise ReleaseError(f"{path} has {size} bytes, more than the limit of {limit} bytes")
