"""Small data folders in the neutral form."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as parquet

Rows = Sequence[tuple[int, int, int]]
"""(user_id, position, item_id)"""


def write_folder(folder: Path, parts: Mapping[str, Rows], items: Sequence[Mapping[str, object]] = ()) -> Path:
    """One file a part, and the items if there are any."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in parts.items():
        columns = zip(*rows, strict=True)
        types = {"user_id": pa.int32(), "position": pa.int16(), "item_id": pa.int32()}
        table = {name: pa.array(column, types[name]) for name, column in zip(types, columns, strict=True)}
        parquet.write_table(pa.table(table), folder / f"{name}.parquet")
    if items:
        parquet.write_table(pa.Table.from_pylist([dict(item) for item in items]), folder / "items.parquet")
    return folder
