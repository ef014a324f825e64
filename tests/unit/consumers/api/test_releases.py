"""`GET /v1/releases`: what the topic has of releases, and what this process makes of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from anabranch import release
from anabranch.http import api_keys, key_file
from anabranch.http.key_file import KeyFile
from anabranch.messages import ReleaseNotice
from tests.support.ranker_world import RankerWorld
from tests.support.replica_world import ReplicaProcess
from tests.support.serving_api import Api, assert_is_problem

FINDING = {"slice": "overall", "metric": "ndcg_at_20", "comparator": "incumbent", "difference": 0.01}


@pytest.fixture
def replica(world: RankerWorld, tmp_path: Path) -> ReplicaProcess:
    return ReplicaProcess(world, release="r2", releases_dir=tmp_path)


def announce(replica: ReplicaProcess, folder: Path, **fields: Any) -> None:
    """The watcher has read a notice about the release in a folder."""
    notice = ReleaseNotice(
        release=folder.name,
        location=folder.name,
        manifest_sha256=release.digest(folder / release.MANIFEST) if folder.exists() else "",
        **fields,
    )
    replica.releases.notices.append(notice)


def listed(replica: ReplicaProcess, **parameters: str) -> Any:
    answer = Api(replica).get("/v1/releases", params=parameters)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_the_newest_release_comes_first_with_its_notice_and_the_findings_of_the_gate(
    world: RankerWorld, replica: ReplicaProcess
) -> None:
    folder = world.release("r2")
    manifest = release.open_release(folder).manifest
    judged = msgspec.structs.replace(manifest, created=5, gate={"ndcg_at_20": 0.06}, findings=[FINDING])
    release.write(folder, judged)
    announce(replica, world.release("r1"), status="retired", ts=1)
    announce(replica, folder, status="live", ts=7, reason="NDCG@20 is above the incumbent's", parent="r1")
    replica.settle()
    answer = listed(replica)
    assert answer["serving"] == "r2"
    assert [(entry["release"], entry["is_serving"], entry["problem"]) for entry in answer["releases"]] == [
        ("r2", True, None),
        ("r1", False, None),
    ]
    newest = answer["releases"][0]
    assert (newest["notice"]["status"], newest["notice"]["ts"], newest["notice"]["parent"]) == ("live", 7, "r1")
    assert newest["notice"]["reason"] == "NDCG@20 is above the incumbent's"
    assert newest["manifest"]["created"] == 5
    assert newest["manifest"]["gate"] == {"ndcg_at_20": 0.06}
    assert newest["manifest"]["findings"] == [FINDING]
    assert "files" not in newest["manifest"]


def test_releases_are_listed_before_any_of_them_serves(world: RankerWorld, tmp_path: Path) -> None:
    replica = ReplicaProcess(world, release=None, releases_dir=tmp_path)
    assert listed(replica) == {"serving": None, "releases": []}
    announce(replica, world.release("r1"), status="live", ts=1)
    answer = listed(replica)
    assert (answer["serving"], answer["releases"][0]["is_serving"]) == (None, False)


def test_a_release_whose_folder_is_not_there_is_listed_with_what_the_topic_has(
    replica: ReplicaProcess, tmp_path: Path
) -> None:
    announce(replica, tmp_path / "r9", status="rejected", ts=3, gate={"ndcg_at_20": 0.01})
    [entry] = listed(replica)["releases"]
    assert entry["manifest"] is None
    assert "does not exist" in entry["problem"]
    assert entry["notice"]["gate"] == {"ndcg_at_20": 0.01}


def test_why_a_release_cannot_serve_here_is_what_the_watcher_found(world: RankerWorld, replica: ReplicaProcess) -> None:
    announce(replica, world.release("r1"), status="live", ts=1)
    replica.releases.unservable.add("r1")
    [entry] = listed(replica)["releases"]
    assert entry["problem"] == "another version made it"
    assert entry["manifest"] is not None


def test_only_the_releases_that_were_announced_last_are_read(world: RankerWorld, replica: ReplicaProcess) -> None:
    for number in range(1, 4):
        announce(replica, world.release(f"r{number}"), status="rejected", ts=number)
    assert [entry["release"] for entry in listed(replica, limit="2")["releases"]] == ["r3", "r2"]
    assert_is_problem(Api(replica).get("/v1/releases", params={"limit": "0"}), 400, "limit")


def test_releases_are_for_admins(replica: ReplicaProcess, tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    secret, reader = api_keys.create("shop", ["rankings:read"])
    key_file.add(path, reader)
    answer = Api(replica, KeyFile(path)).get("/v1/releases", headers={"Authorization": f"Bearer {secret}"})
    assert_is_problem(answer, 403, "admin")
