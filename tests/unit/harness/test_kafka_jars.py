"""The jars of Apache Kafka: fetched once, and never others than the pinned ones."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from anabranch.errors import BrokerUnavailable
from anabranch.harness.environment import kafka_jars
from anabranch.harness.environment.kafka_jars import Jar, ensure_jars


class MavenCentral:
    """Serves the content of each jar, its name unless told otherwise, and remembers what it was asked for."""

    def __init__(self) -> None:
        self.content: dict[str, bytes] = {}
        self.asked: list[str] = []

    def download(self, jar: Jar, folder: Path) -> Path:
        self.asked.append(jar.artifact)
        path = folder / f"download-{jar.artifact}"
        path.write_bytes(self.content.get(jar.artifact, jar.artifact.encode()))
        return path


@pytest.fixture(autouse=True)
def jars(monkeypatch: pytest.MonkeyPatch) -> None:
    pinned = [Jar("org", name, "1.0", hashlib.sha256(name.encode()).hexdigest()) for name in ("kafka", "scala")]
    monkeypatch.setattr(kafka_jars, "pinned_jars", lambda: pinned)


@pytest.fixture
def central() -> MavenCentral:
    return MavenCentral()


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_jars_are_fetched_once(tmp_path: Path, central: MavenCentral) -> None:
    assert ensure_jars(tmp_path / "jars", central.download) == tmp_path / "jars"
    assert names(tmp_path / "jars") == {"kafka-1.0.jar", "scala-1.0.jar"}
    assert sorted(central.asked) == ["kafka", "scala"]
    ensure_jars(tmp_path / "jars", central.download)
    assert sorted(central.asked) == ["kafka", "scala"]


def test_a_jar_with_another_content_is_fetched_again(tmp_path: Path, central: MavenCentral) -> None:
    ensure_jars(tmp_path, central.download)
    (tmp_path / "scala-1.0.jar").write_bytes(b"half of it")
    central.asked.clear()
    ensure_jars(tmp_path, central.download)
    assert central.asked == ["scala"]
    assert (tmp_path / "scala-1.0.jar").read_bytes() == b"scala"


def test_a_download_that_is_not_the_pinned_jar_is_refused(tmp_path: Path, central: MavenCentral) -> None:
    central.content["kafka"] = b"something else"
    with pytest.raises(BrokerUnavailable, match=r"kafka-1\.0\.jar was downloaded with sha256 .*; pinned is "):
        ensure_jars(tmp_path, central.download)
    assert "kafka-1.0.jar" not in names(tmp_path)


def test_a_failed_download_names_the_jar_and_the_cause(tmp_path: Path) -> None:
    def refuse(jar: Jar, folder: Path) -> Path:
        raise OSError("no route to host")

    with pytest.raises(BrokerUnavailable, match=r"kafka-1\.0\.jar of Apache Kafka cannot be downloaded: no route"):
        ensure_jars(tmp_path, refuse)
    assert names(tmp_path) == set()
