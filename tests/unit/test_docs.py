"""The tests that docs/architecture.md names as its proofs are there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_every_row_of_what_each_input_becomes_names_tests_that_are_there() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text("utf-8")
    section = text.partition("## What each input becomes")[2].partition("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("| ") and "| test |" not in line]
    assert rows
    assert not [row for row in rows if "`test_" not in row]
    assert set(re.findall(r"`(test_\w+)`", section)) <= _tests()


def _tests() -> set[str]:
    return {
        node.name
        for file in (ROOT / "tests").rglob("test_*.py")
        for node in ast.walk(ast.parse(file.read_text("utf-8")))
        if isinstance(node, ast.FunctionDef)
    }
