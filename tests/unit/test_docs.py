"""The documents name files, functions and tests that are there."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCUMENTS = ("README.md", "CONTRIBUTING.md", *(f"docs/{file.name}" for file in sorted((ROOT / "docs").glob("*.md"))))
PATH = re.compile(r"`((?:anabranch|consumers|models|producers|tests|deploy|docs)/[\w./-]*)`")
SECTIONS = {"Walk 1": 20, "Walk 2": 9, "Walk 3": 20, "Where to change what": 4}
"""Sections of docs/architecture.md with rows of a file and its functions, and how many rows at least."""


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_path_that_a_document_names_is_there(document: str) -> None:
    paths = PATH.findall(_read(document))
    assert not [path for path in paths if not (ROOT / path).exists()]


@pytest.mark.parametrize(("section", "rows"), SECTIONS.items())
def test_every_row_names_functions_of_its_file(section: str, rows: int) -> None:
    rooms = list(_rooms(_section(section)))
    assert len(rooms) >= rows
    assert all(files and names for files, names in rooms)
    assert not [(files, set(names)) for files, names in rooms if set(names) - set().union(*map(_definitions, files))]


def test_every_row_of_what_each_input_becomes_names_tests_that_are_there() -> None:
    section = _section("What each input becomes")
    rows = [line for line in section.splitlines() if line.startswith("| ") and "| test |" not in line]
    assert rows
    assert not [row for row in rows if "`test_" not in row]
    assert set(re.findall(r"`(test_\w+)`", section)) <= _tests()


def test_every_test_that_a_document_names_is_there() -> None:
    assert {name for document in DOCUMENTS for name in re.findall(r"`(test_\w+)`", _read(document))} <= _tests()


def _read(document: str) -> str:
    return (ROOT / document).read_text("utf-8")


def _section(title: str) -> str:
    """The section of docs/architecture.md whose heading begins with `title`."""
    return _read("docs/architecture.md").partition(f"\n## {title}")[2].partition("\n## ")[0]


def _rooms(section: str) -> Iterator[tuple[list[Path], list[str]]]:
    """Files and functions of each row of the section's tables that have columns `file` and `function`."""
    for table in re.findall(r"(?:^\|.*\n)+", section, re.MULTILINE):
        header, _, *rows = ([cell.strip() for cell in line.strip("|\n").split("|")] for line in table.splitlines())
        if "function" in header:
            for row in rows:
                cells = f"{row[header.index('file')]} {row[header.index('function')]}"
                names = [name for name in re.findall(r"`([^`]+)`", cells) if not name.endswith(".py")]
                yield [ROOT / name for name in re.findall(r"`([^`]+\.py)`", cells)], names


def _definitions(file: Path) -> set[str]:
    """Functions, classes, and methods with their class."""
    names = set()
    for node in ast.parse(file.read_text("utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        if isinstance(node, ast.ClassDef):
            names |= {f"{node.name}.{method.name}" for method in node.body if isinstance(method, ast.FunctionDef)}
    return names


def _tests() -> set[str]:
    return {
        node.name
        for file in (ROOT / "tests").rglob("test_*.py")
        for node in ast.walk(ast.parse(file.read_text("utf-8")))
        if isinstance(node, ast.FunctionDef)
    }
