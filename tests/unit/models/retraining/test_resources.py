from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import save_file

from models.retraining.resources import OutOfResources, resources_checked
from tests.support.full_disk import files_up_to


def with_safetensors(path: Path) -> None:
    save_file({"weights": torch.zeros(100_000)}, path)


def with_arrow(path: Path) -> None:
    pq.write_table(pa.table({"id": [str(number) for number in range(100_000)]}), path)


def with_python(path: Path) -> None:
    path.write_bytes(bytes(100_000))


@pytest.mark.parametrize("write", [with_safetensors, with_arrow, with_python])
def test_a_full_disk_is_told_in_whatever_language_the_library_is_written(
    write: Callable[[Path], None], tmp_path: Path
) -> None:
    full = pytest.raises(OutOfResources, match=r"the disk is full.* MiB free for .*: make room")
    with files_up_to(4096), full, resources_checked((tmp_path,)):
        write(tmp_path / "file")


@pytest.mark.parametrize("allocate", [np.ones, torch.ones], ids=["numpy", "torch"])
def test_missing_memory_is_told_whichever_library_misses_it(allocate: Callable[[int], object], tmp_path: Path) -> None:
    missing = pytest.raises(OutOfResources, match="there is not enough memory: give the process more")
    with missing, resources_checked((tmp_path,)):
        allocate(1 << 50)


def test_the_cause_may_be_another_error_than_the_one_that_arrives(tmp_path: Path) -> None:
    with pytest.raises(OutOfResources), resources_checked((tmp_path,)):
        try:
            raise OSError(errno.EDQUOT, "Disk quota exceeded")
        except OSError as error:
            raise RuntimeError("the export failed") from error


@pytest.mark.parametrize("error", [OSError(errno.EACCES, "Permission denied"), RuntimeError("shape mismatch")])
def test_any_other_error_stays_what_it_is(error: Exception, tmp_path: Path) -> None:
    with pytest.raises(type(error)) as raised, resources_checked((tmp_path,)):
        raise error
    assert raised.value is error
