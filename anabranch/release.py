"""Releases: versioned, immutable folders that may serve. Read, verify, write, list."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from anabranch.errors import AnabranchError

MANIFEST = "manifest.json"
REQUIRED_FILES = ("text.onnx", "tokenizer.json", "item.onnx", "items.json", "step.onnx", "order.onnx")
MAX_MANIFEST_BYTES = 1 << 20


class ReleaseError(AnabranchError):
    """A release folder that may not serve: incomplete, altered, or not a release at all."""


class DataWindow(Struct, frozen=True, kw_only=True):
    """Which events made the release, in ms: [train_from, order_from) taught the encoder, [order_from, gate_from)
    the order, [gate_from, gate_to] was unseen until the gate."""

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


def write(folder: Path, manifest: Manifest) -> str:
    """Write the manifest of a finished folder; the manifest's sha256."""
    payload = msgspec.json.format(msgspec.json.encode(manifest), indent=2)
    (folder / MANIFEST).write_bytes(payload)
    return hashlib.sha256(payload).hexdigest()


def read(folder: Path) -> Manifest:
    """The manifest of a folder, checked against its schema. Raises `ReleaseError`."""
    path = folder / MANIFEST
    try:
        if path.stat().st_size > MAX_MANIFEST_BYTES:
            raise ReleaseError(f"{path} is larger than {MAX_MANIFEST_BYTES} bytes: not a manifest")
        return msgspec.json.decode(path.read_bytes(), type=Manifest)
    except FileNotFoundError as error:
        raise ReleaseError(f"{path} does not exist: is releases_dir the folder the re-sharing job writes?") from error
    except msgspec.DecodeError as error:
        raise ReleaseError(f"{path}: {error}") from error


def digest(path: Path) -> str:
    """The file's sha256, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digests(folder: Path) -> dict[str, str]:
    """sha256 of every file of a folder but the manifest."""
    return {path.name: digest(path) for path in sorted(folder.iterdir()) if path.name != MANIFEST}


def verify(folder: Path) -> Manifest:
    """Read a release and check every file against its sha256. Raises `ReleaseError`, naming the file."""
    manifest = read(folder)
    missing = [name for name in REQUIRED_FILES if name not in manifest.files]
    if missing:
        raise ReleaseError(f"release {manifest.id} lists no {', '.join(missing)} in its manifest")
    for name, expected in manifest.files.items():
        if Path(name).name != name:
            raise ReleaseError(f"release {manifest.id} names {name!r}, which is not a file of its own folder")
        path = folder / name
        if not path.is_file() or path.is_symlink():
            raise ReleaseError(f"release {manifest.id} lacks {name}")
        if digest(path) != expected:
            raise ReleaseError(f"release {manifest.id}: {name} does not match its sha256 in the manifest")
    return manifest


def folder_of(releases_dir: Path, location: str) -> Path:
    """The folder a notice names. Raises `ReleaseError` where it would leave `releases_dir`."""
    if Path(location).name != location or location in (".", ".."):
        raise ReleaseError(f"location {location!r} is not the name of a folder under {releases_dir}")
    return releases_dir / location


def folders(releases_dir: Path) -> list[Path]:
    """Every release folder, oldest first by name."""
    return sorted(path.parent for path in releases_dir.glob(f"*/{MANIFEST}"))
