"""Releases: versioned, immutable folders that may serve. Open, read verified, write, list."""

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

from anabranch.errors import AnabranchError
from anabranch.messages import ReleaseNotice

MANIFEST = "manifest.json"
REQUIRED_FILES = ("text.onnx", "tokenizer.json", "item.onnx", "items.json", "step.onnx", "order.onnx")
GATES, READOUT = "gates.onnx", "readout.onnx"
"""What a release may have beside step.onnx, of an encoder that is a gated linear recurrence: its step in two parts."""
PURCHASE_HEAD = "purchase.onnx"
"""A head that a release may have or lack."""
MAX_MANIFEST_BYTES = 1 << 20
MAX_FILE_BYTES = 1 << 30
"""A file is read whole, into memory. The largest grow with the catalogue: 1 GiB is item.onnx for two million items of
128 dimensions. Protobuf, and so an ONNX file, ends at 2 GiB in any case."""
MAX_FILES = 32
"""A release has a dozen."""
FILE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}")


class ReleaseError(AnabranchError):
    """A release folder that may not serve: incomplete, altered, or not a release at all."""


class DataWindow(Struct, frozen=True, kw_only=True):
    """Which events made the release, in ms: [train_from, order_from) taught the encoder, [order_from, gate_from)
    the order, [gate_from, gate_to) was unseen until the gate, which uses a window once."""

    train_from: int
    order_from: int
    gate_from: int
    gate_to: int
    events: int


class Manifest(Struct, frozen=True, kw_only=True):
    """What a release is and how it came to be."""

    id: str
    parent: str | None
    created: int
    """ms UTC."""
    dims: int
    state_dims: int
    text_dims: int
    features: list[str]
    """Names of `order.onnx`'s features, in order."""
    seeds: list[str]
    strategy: dict[str, Any]
    window: DataWindow
    parity: dict[str, float]
    """Largest absolute difference between each ONNX file and its PyTorch original."""
    gate: dict[str, float]
    files: dict[str, str]
    """File name → sha256, for every file but the manifest."""
    heads: dict[str, dict[str, Any]] = {}
    """What was measured of each optional head that the release has, by name: `purchase`."""


class ArtifactReader(Protocol):
    """The files of a folder, each read whole and once: what is loaded is what was read."""

    @property
    def folder(self) -> Path:
        """Where they are, for messages."""

    def read(self, name: str) -> bytes:
        """A file's bytes. Raises `ReleaseError`."""


@dataclass(frozen=True)
class Release:
    """A folder that may serve: its files are handed out only as its manifest has them."""

    folder: Path
    manifest: Manifest

    def read(self, name: str) -> bytes:
        """A file's bytes, checked against their sha256. Raises `ReleaseError`, naming the file."""
        expected = self.manifest.files.get(name)
        if expected is None:
            raise ReleaseError(f"release {self.manifest.id} lists no {name} in its manifest")
        payload = _read(self.folder, name, MAX_FILE_BYTES)
        if hashlib.sha256(payload).hexdigest() != expected:
            raise ReleaseError(f"release {self.manifest.id}: {name} does not match its sha256 in the manifest")
        return payload

    def verify(self) -> None:
        """Read every file, one after the other. Raises `ReleaseError`, naming the first that is not as it should be."""
        for name in self.manifest.files:
            self.read(name)


@dataclass(frozen=True)
class UnverifiedRelease:
    """A folder that this process is writing, before there is a manifest to hold its files against."""

    folder: Path

    def read(self, name: str) -> bytes:
        """A file's bytes, as they are. Raises `ReleaseError`."""
        return _read(self.folder, name, MAX_FILE_BYTES)


def open_release(folder: Path) -> Release:
    """A release by its folder. Raises `ReleaseError` unless its manifest is one, and lists what a release needs."""
    return Release(folder, _decoded(folder, _read_manifest(folder)))


def open_announced(releases_dir: Path, notice: ReleaseNotice) -> Release:
    """The release that a notice names, with the manifest that was announced. Raises `ReleaseError`."""
    folder = folder_of(releases_dir, notice.location)
    payload = _read_manifest(folder)
    manifest = _decoded(folder, payload)
    if manifest.id != notice.release:
        raise ReleaseError(f"{folder} holds release {manifest.id}, not {notice.release}")
    if hashlib.sha256(payload).hexdigest() != notice.manifest_sha256:
        raise ReleaseError(f"the manifest in {folder} is not the one announced for {notice.release}")
    return Release(folder, manifest)


def write(folder: Path, manifest: Manifest) -> str:
    """Write the manifest of a finished folder; the manifest's sha256."""
    payload = msgspec.json.format(msgspec.json.encode(manifest), indent=2)
    (folder / MANIFEST).write_bytes(payload)
    return hashlib.sha256(payload).hexdigest()


def digest(path: Path) -> str:
    """The file's sha256, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digests(folder: Path) -> dict[str, str]:
    """sha256 of every file of a folder but the manifest. Raises `ReleaseError` for one too large to be read again."""
    files = [path for path in sorted(folder.iterdir()) if path.name != MANIFEST]
    for path in files:
        _require_size(path, path.stat().st_size, MAX_FILE_BYTES)
    return {path.name: digest(path) for path in files}


def folder_of(releases_dir: Path, location: str) -> Path:
    """The folder a notice names. Raises `ReleaseError` where it would leave `releases_dir`."""
    if Path(location).name != location or location in ("", ".", ".."):
        raise ReleaseError(f"location {location!r} is not the name of a folder under {releases_dir}")
    return releases_dir / location


def report_path(data_dir: Path, release_id: str) -> Path:
    """Where the job that made a release leaves its report: beside the releases, whose folders never change."""
    return data_dir / "reports" / f"{release_id}.html"


def folders(releases_dir: Path) -> list[Path]:
    """Every release folder, oldest first by name."""
    return sorted(path.parent for path in releases_dir.glob(f"*/{MANIFEST}"))


def _read_manifest(folder: Path) -> bytes:
    if not folder.exists():
        raise ReleaseError(f"{folder} does not exist: is releases_dir the folder the re-sharing job writes?")
    return _read(folder, MANIFEST, MAX_MANIFEST_BYTES)


def _decoded(folder: Path, payload: bytes) -> Manifest:
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
    """A plain file of a plain folder, whole; it may be swapped meanwhile, but what was opened is what is read."""
    path = folder / name
    try:
        with open(path, "rb", opener=_without_links) as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise ReleaseError(f"{path} is not a file")
            _require_size(path, status.st_size, limit)
            payload = file.read(status.st_size + 1)
    except OSError as error:
        linked = next((one for one in (folder, path) if one.is_symlink()), None)
        why = f"{path} cannot be read: {error.strerror}" if linked is None else f"{linked} is a symbolic link"
        raise ReleaseError(f"{why}; a release is a folder of plain files") from error
    if len(payload) != status.st_size:
        raise ReleaseError(f"{path} changed while it was read: a release is never written again")
    return payload


def _without_links(path: str, flags: int) -> int:
    """Open a file where neither it nor its folder is a symbolic link; a pipe does not hold up."""
    folder, name = os.path.split(path)
    at = os.open(folder or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        return os.open(name, flags | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=at)
    finally:
        os.close(at)


def _require_size(path: Path, size: int, limit: int) -> None:
    if size > limit:
        raise ReleaseError(f"{path} has {size} bytes: {limit} are the most that are read")
