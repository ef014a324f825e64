"""The counts on disk: a restart goes on from there, and reads what came since from the log.

Counts and offsets are in one file, which a crash leaves whole or as it was, so that every event counts once.
"""

from __future__ import annotations

import logging
import zipfile
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from anabranch.co_visit.shard import WHOLE, Shard
from anabranch.co_visit_rule import CoVisitRule
from anabranch.durable_files import create_folder, replaced_durably
from anabranch.settings import Settings

HEADER = "header"
FORMAT = 1
log = logging.getLogger(__name__)


class SavedPosition(Struct, frozen=True):
    """How far a partition was counted."""

    partition: int
    next_offset: int
    topic_id: str = ""
    """Of the topic that the offset counts in; empty: the broker does not say."""


class Header(Struct, frozen=True, kw_only=True):
    """What the arrays of a file are."""

    format: int
    rule: dict[str, Any]
    positions: list[SavedPosition]
    shard: Shard = WHOLE


class SavedCounts(Struct, frozen=True):
    """Counts of a file."""

    positions: list[SavedPosition]
    arrays: Mapping[str, NDArray[Any]]


def path_of(settings: Settings) -> Path:
    """Where the counts of this process's shard are."""
    return settings.data_dir / "neighbours" / f"counts{Shard.from_settings(settings).suffix}.npz"


def write(path: Path, rule: CoVisitRule, shard: Shard, saved: SavedCounts) -> int:
    """Replace the file as a whole; returns its size in bytes."""
    create_folder(path.parent)
    header = msgspec.json.encode(Header(format=FORMAT, rule=asdict(rule), positions=saved.positions, shard=shard))
    with replaced_durably(path) as unfinished, unfinished.open("wb") as file:
        np.savez(file, allow_pickle=False, **saved.arrays, **{HEADER: np.frombuffer(header, np.uint8)})
    return path.stat().st_size


def read(path: Path, rule: CoVisitRule, shard: Shard) -> SavedCounts | None:
    """The counts of this shard that were saved by this rule; None if there are none.

    Says why what is there cannot be used.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        header = msgspec.json.decode(arrays.pop(HEADER).tobytes(), type=Header)
    except FileNotFoundError:
        return None
    except (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile, msgspec.DecodeError) as error:
        log.warning("%s cannot be read (%s): all events of the log are counted anew", path, error)
        return None
    if header.format != FORMAT or header.rule != asdict(rule):
        log.warning("%s was counted by another rule: all events of the log are counted anew", path)
        return None
    if header.shard != shard:
        log.warning(
            "%s has the counts of %s, and this is %s: all events of the log are counted anew", path, header.shard, shard
        )
        return None
    return SavedCounts(header.positions, arrays)
