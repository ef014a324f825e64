"""The jars of Apache Kafka, pinned by version and content. They are fetched from Maven Central once."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from tempfile import TemporaryDirectory

from anabranch.errors import BrokerUnavailable, UsageError
from anabranch.progress_bar import bar
from anabranch.release import digest

CONNECTIONS = 8
TIMEOUT_S = 60

Download = Callable[["Jar", Path], Path]
"""Downloads a jar to a folder, and returns its file."""


@dataclass(frozen=True)
class Jar:
    """A jar by its Maven coordinates and the digest of its content."""

    group: str
    artifact: str
    version: str
    sha256: str

    @property
    def file_name(self) -> str:
        """As Maven names it."""
        return f"{self.artifact}-{self.version}.jar"

    def is_in(self, folder: Path) -> bool:
        """Whether the folder has the jar, with the pinned content."""
        path = folder / self.file_name
        return path.is_file() and digest(path) == self.sha256


def pinned_jars() -> list[Jar]:
    """Kafka's server, all that it depends on, and a log binding: without that, a failed start would be silent."""
    content = (files("anabranch.harness.environment") / "kafka_jars.json").read_text("utf-8")
    jars = []
    for coordinates, sha256 in json.loads(content).items():
        group, artifact, version = coordinates.split(":")
        jars.append(Jar(group, artifact, version, sha256))
    return jars


def kafka_version() -> str:
    """The version of Apache Kafka."""
    (version,) = {jar.version for jar in pinned_jars() if jar.artifact == "kafka_2.13"}
    return version


def cache_folder() -> Path:
    """Where the jars of this version are kept, for all clones and environments of the user."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "anabranch" / f"kafka-{kafka_version()}"


def ensure_jars(folder: Path, download: Download | None = None) -> Path:
    """Fetch the jars that the folder lacks, or has with another content. Returns the folder; offline if it lacks none.

    Raises `BrokerUnavailable` if a jar cannot be fetched, or is not the pinned one.
    """
    missing = [jar for jar in pinned_jars() if not jar.is_in(folder)]
    if missing:
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=folder) as downloads, bar("Fetch Apache Kafka", len(missing)) as advance:
            for jar, path in _download_all(missing, Path(downloads), download or download_from_maven_central):
                path.replace(folder / jar.file_name)  # atomic: another process may do the same
                advance(1)
    return folder


def download_from_maven_central(jar: Jar, folder: Path) -> Path:
    """Download a jar by jgo, which needs no Maven. Raises `UsageError` if it is not installed."""
    try:
        from jgo.maven import MavenContext
    except ImportError as error:
        raise UsageError("Apache Kafka is not installed: pip install 'anabranch[demo]'") from error
    context = MavenContext(repo_cache=folder, local_repos=[], timeout=TIMEOUT_S)
    path: Path = context.project(jar.group, jar.artifact).at_version(jar.version).artifact().resolve()
    return path


def _download_all(jars: list[Jar], folder: Path, download: Download) -> Iterator[tuple[Jar, Path]]:
    def fetch(jar: Jar) -> tuple[Jar, Path]:
        try:
            path = download(jar, folder)
        except UsageError:
            raise
        except Exception as error:  # of requests, of jgo, or of the file system
            raise BrokerUnavailable(f"{jar.file_name} of Apache Kafka cannot be downloaded: {error}") from error
        sha256 = digest(path)
        if sha256 != jar.sha256:
            raise BrokerUnavailable(f"{jar.file_name} was downloaded with sha256 {sha256}; pinned is {jar.sha256}")
        return jar, path

    with ThreadPoolExecutor(CONNECTIONS) as pool:
        yield from pool.map(fetch, jars)
