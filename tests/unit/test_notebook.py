"""The notebook for data scientists runs from its first cell to its last, on a small shop."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient
from traitlets.config import Config

from anabranch import release
from tests.support.releases import DIMS, write_release

ROOT = Path(__file__).parents[2]
NOTEBOOK = ROOT / "docs" / "notebooks" / "release.ipynb"
COLOURS, THINGS = ("red", "blue", "green"), ("cup", "plate", "bowl", "jug", "spoon")
TITLES = [f"{colour} {thing}" for thing in THINGS for colour in COLOURS]
CELL_TIMEOUT_S = 250


def read() -> Any:
    return nbformat.read(NOTEBOOK, as_version=4)


def printed(notebook: Any) -> str:
    """All that the cells print."""
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    return "".join(output.text for output in outputs if output.output_type == "stream" and output.name == "stdout")


def rows(lines: Iterator[str]) -> str:
    return "".join(f"{line}\n" for line in lines)


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    items = [f"i{number}" for number in range(len(TITLES))]
    write_release(tmp_path / "release", "r7", items)
    of_items = (f"{item},{title}" for item, title in zip(items, TITLES, strict=True))
    (tmp_path / "items.csv").write_text("item_id,title\n" + rows(of_items), "utf-8")
    of_events = (f"u{n % 3},{items[n * 7 % len(items)]},{1_700_000_000_000 + n * 60_000},view" for n in range(30))
    (tmp_path / "events.csv").write_text("user_id,item_id,ts,type\n" + rows(of_events), "utf-8")
    return tmp_path


def test_the_notebook_is_stored_without_outputs() -> None:
    notebook = read()
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert code
    assert not [cell for cell in code if cell.outputs or cell.execution_count is not None]


def test_the_notebook_ranks_explains_and_releases_an_encoder_of_ones_own(
    shop: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOTEBOOK_DATA", str(shop))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    notebook = read()
    config = Config(KernelManager={"transport": "ipc"})
    NotebookClient(notebook, timeout=CELL_TIMEOUT_S, kernel_name="python3", config=config).execute()
    text = printed(notebook)
    assert f"r7 {DIMS} dimensions, {len(TITLES)} items" in text
    assert text.count("slate: [") == 2
    assert "of the index for the user's vector" in text
    own = release.open_release(shop / "own-encoder")
    own.verify()
    assert (own.manifest.parent, release.GATES in own.manifest.files) == ("r7", False)
