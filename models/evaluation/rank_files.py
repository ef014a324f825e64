"""Files with the rank of each event of a test: what a paired comparison needs, and no id of a user."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class RankedEvents:
    """The M events of a test."""

    user_ids: Sequence[str]  # [M]
    item: NDArray[np.integer]  # [M], numbers of the items that the users chose


def write_ranks(
    path: Path,
    events: RankedEvents,
    by_event: Mapping[str, NDArray[Any]],
    names: Mapping[str, Sequence[str]] = {},
) -> None:
    """Write arrays [..., M] of the events of a test, and lists of names, to an .npz file.

    The file has the events user by user, in ascending order of the ids, and those of a user in the order given. `user`
    [M] numbers the users, and `events` is the SHA-256 digest of user ids and items: files with the same digest have the
    same events in the same order.
    """
    ids = np.array(events.user_ids, np.str_)
    order = np.argsort(ids, kind="stable")
    lines = [f"{user} {item}" for user, item in zip(ids[order].tolist(), events.item[order].tolist(), strict=True)]
    arrays: dict[str, Any] = {
        "events": sha256("\n".join(lines).encode()).hexdigest(),
        "user": np.unique(ids[order], return_inverse=True)[1].astype(np.int32),
        **{name: values[..., order] for name, values in by_event.items()},
        **{name: np.array(values, np.str_) for name, values in names.items()},
    }
    np.savez_compressed(path, **arrays)
