"""promtool, which tests alert rules: the one on the path, or else Debian's, fetched once and kept in the cache."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory

TIMEOUT_S = 180


class PromtoolMissing(Exception):
    """There is no promtool on the path, and none can be fetched."""


def find_promtool() -> Path:
    """The path of promtool. Raises `PromtoolMissing`."""
    installed = shutil.which("promtool")
    if installed is not None:
        return Path(installed)
    cached = _cache_folder() / "promtool"
    if not cached.is_file():
        _fetch(cached)
    return cached


def _cache_folder() -> Path:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "anabranch" / "promtool"


def _fetch(target: Path) -> None:
    """Take promtool out of Debian's package `prometheus`, whose signature apt checks; nothing is installed."""
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        raise PromtoolMissing("this system has no apt-get: install promtool, which is a part of Prometheus")
    target.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=target.parent) as name:
        folder = Path(name)
        options = _lists_of_our_own(folder)
        _run("apt-get", *options, "update", cwd=folder)
        _run("apt-get", *options, "download", "prometheus", cwd=folder)
        (package,) = folder.glob("prometheus_*.deb")
        _run("dpkg-deb", "--extract", str(package), str(folder / "content"), cwd=folder)
        (folder / "content/usr/bin/promtool").replace(target)  # atomic: another process may do the same


def _lists_of_our_own(folder: Path) -> list[str]:
    """The system's sources and keys, but lists and cache in the folder: so it needs no root, and no lock."""
    (folder / "lists/partial").mkdir(parents=True)
    (folder / "cache/archives/partial").mkdir(parents=True)
    return [
        "--quiet",
        f"--option=Dir::State::Lists={folder / 'lists'}",
        f"--option=Dir::Cache={folder / 'cache'}",
        "--option=APT::Sandbox::User=",
        "--option=Acquire::Retries=3",
    ]


def _run(*command: str, cwd: Path) -> None:
    try:
        subprocess.run(command, cwd=cwd, check=True, capture_output=True, text=True, timeout=TIMEOUT_S)
    except subprocess.SubprocessError as error:
        output = getattr(error, "stderr", None) or ""
        raise PromtoolMissing(f"promtool cannot be fetched: {error} {output}") from error
