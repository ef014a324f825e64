"""A full disk and missing memory, said in one line with the remedy. Libraries raise these errors in many forms."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from anabranch.errors import AnabranchError

DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
MEMORY_WORDS = ("can't allocate memory", "bad_alloc", os.strerror(errno.ENOMEM))
"""PyTorch, ONNX Runtime and others raise a RuntimeError with these words."""


class OutOfResources(AnabranchError):
    """The disk is full, or there is not enough memory. The next attempt may succeed."""


@contextmanager
def resources_checked(folders: tuple[Path, ...]) -> Iterator[None]:
    """Raise `OutOfResources` for errors of a full disk or of missing memory. The block writes to `folders`."""
    try:
        yield
    except Exception as error:
        if any(_is_disk_full(cause) for cause in _causes(error)):
            raise OutOfResources(
                f"the disk is full, or a quota is used up ({_free(folders)}, without what this run had begun): "
                f"make room. {_first_line(error)}"
            ) from error
        if any(_is_memory_error(cause) for cause in _causes(error)):
            raise OutOfResources(
                "there is not enough memory: give the process more, or lower retention_days, --threads or "
                f"--search-seconds. {_first_line(error)}"
            ) from error
        raise


def _free(folders: Iterable[Path]) -> str:
    existing = [folder for folder in folders if folder.exists()]
    return ", ".join(f"{shutil.disk_usage(folder).free >> 20:,} MiB free for {folder}" for folder in existing)


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).partition(os.linesep)[0]}"


def _is_disk_full(error: BaseException) -> bool:
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno in DISK_FULL
    return any(os.strerror(number) in str(error) for number in DISK_FULL)  # libraries in Rust and C++


def _is_memory_error(error: BaseException) -> bool:
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno == errno.ENOMEM
    return isinstance(error, MemoryError) or any(words in str(error) for words in MEMORY_WORDS)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
