"""The kind of a data folder: what is usual for its protocol, unless its histories are long."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as parquet
import pytest

from models.experiments.choices import EvaluationProtocol
from models.experiments.input_data import Division, InputFiles, read_benchmark
from models.pipeline.config import ReleaseCandidateConfig
from models.pipeline.presets import Kind

USERS = 20


def folder_of(path: Path, events: int) -> Path:
    """Users with so many events for training, each about another item, and one for each of the other parts."""
    path.mkdir()
    for name, first, count in (("train", 0, events), ("val", events, 1), ("test", events + 1, 1)):
        rows = [(user, step, user * 7 + first + step) for user in range(USERS) for step in range(count)]
        columns = dict(zip(("user_id", "position", "item_id"), zip(*rows, strict=True), strict=True))
        parquet.write_table(pa.table({key: list(column) for key, column in columns.items()}), path / f"{name}.parquet")
    return path


@pytest.mark.parametrize(("events", "kind"), [(12, "histories"), (60, "long_histories")])
def test_long_histories_of_a_leave_one_out_folder_are_found(tmp_path: Path, events: int, kind: str) -> None:
    said: list[str] = []

    def configure(found: Kind) -> ReleaseCandidateConfig:
        assert found == kind
        return ReleaseCandidateConfig()

    files = InputFiles([folder_of(tmp_path / "films", events)], say=said.append)
    read_benchmark(Division(EvaluationProtocol.LEAVE_ONE_OUT), files, None, configure)
    assert any(f"kind of data: {kind} (" in line for line in said)
