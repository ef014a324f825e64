"""The arrows of docs/architecture.md, kept true."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
OURS = {"anabranch", "producers", "consumers", "models"}
MAY_IMPORT = {
    "anabranch": {"anabranch"},
    "producers": {"anabranch", "producers"},
    "consumers": {"anabranch", "consumers"},
    "models": {"anabranch", "models"},
}


def _imports(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


@pytest.mark.parametrize("package", sorted(OURS))
def test_a_package_imports_only_what_the_map_allows(package: str) -> None:
    for file in (ROOT / package).rglob("*.py"):
        if file.is_relative_to(ROOT / "anabranch" / "cli") or file.is_relative_to(ROOT / "anabranch" / "harness"):
            continue  # the composition roots
        roots = {name.partition(".")[0] for name in _imports(file)} & OURS
        assert roots <= MAY_IMPORT[package], f"{file.relative_to(ROOT)} imports {sorted(roots - MAY_IMPORT[package])}"


def test_models_knows_kafka_in_its_periodic_job_alone() -> None:
    for file in (ROOT / "models").rglob("*.py"):
        if not file.is_relative_to(ROOT / "models" / "retraining"):
            kafka = [name for name in _imports(file) if name.startswith(("kafka", "anabranch.kafka"))]
            assert not kafka, f"{file.relative_to(ROOT)} imports {kafka}"


def test_serving_needs_neither_torch_nor_transformers() -> None:
    program = (
        "import sys, consumers.ranker.ranker, consumers.indexer.indexer, anabranch.cli.main; "
        "sys.exit(sorted({'torch', 'transformers'} & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("room", "may_import"),
    [
        (".", set()),
        ("user_state", {"user_state"}),
        ("inference", {"inference"}),
        ("retrieval", {"retrieval", "user_state"}),
        ("pipeline", {"pipeline", "inference", "retrieval", "user_state"}),
    ],
)
def test_a_room_of_ranking_imports_the_shared_root_and_the_rooms_below_it(room: str, may_import: set[str]) -> None:
    for file in (ROOT / "anabranch" / "ranking" / room).glob("*.py"):
        parts = [name.split(".") for name in _imports(file) if name.startswith("anabranch.ranking.")]
        rooms = {part[2] for part in parts} & {"user_state", "inference", "retrieval", "pipeline"}
        assert rooms <= may_import, f"{file.relative_to(ROOT)} imports {sorted(rooms - may_import)}"
