"""Tables where the output is no terminal: a file or a pipe gets them whole."""

from __future__ import annotations

import pytest
from rich.table import Table

from anabranch.console import FILE_COLUMNS, output_console

WIDE_ROW = [f"a cell of column {number}" for number in range(12)]


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("COLUMNS", "FORCE_COLOR", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)


def print_wide_table() -> None:
    table = Table(*(f"column {number}" for number in range(12)))
    table.add_row(*WIDE_ROW)
    output_console().print(table)


def test_a_table_is_not_cut_where_the_output_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    print_wide_table()
    lines = capsys.readouterr().out.splitlines()
    assert any(all(cell in line for cell in WIDE_ROW) for line in lines)
    assert max(map(len, lines)) < 300, "a table takes only what it needs"


def test_the_width_of_the_environment_is_kept(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    print_wide_table()
    assert max(map(len, capsys.readouterr().out.splitlines())) == 100


def test_a_terminal_keeps_its_width(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich takes any output for a terminal then
    assert output_console().width < FILE_COLUMNS
