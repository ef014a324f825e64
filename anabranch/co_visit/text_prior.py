"""Neighbours by text, which items have before anybody visits them; and the file of a release that has them."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from anabranch.release import Release

TEXT_NEIGHBOURS = "text_neighbours.npz"
"""Of a release whose co-visit rule has a `text_prior`: who counts as events come reads them here."""


class TextPrior(NamedTuple):
    """Neighbours by text, of the items 0 to C - 1."""

    item: NDArray[np.int32]
    """[C, W] padded with -1"""
    share: NDArray[np.float32]
    """[C, W] a row sums to 1, or to 0 if the item has no text"""


NO_TEXTS = TextPrior(np.empty((0, 0), np.int32), np.empty((0, 0), np.float32))


def write(folder: Path, item_ids: Sequence[str], prior: TextPrior) -> None:
    """Write the neighbours of items [C] into a release's folder."""
    ids = np.frombuffer(msgspec.json.encode(item_ids), np.uint8)
    with (folder / TEXT_NEIGHBOURS).open("wb") as file:
        np.savez(file, allow_pickle=False, item_ids=ids, item=prior.item, share=prior.share)


def read(release: Release, number: Callable[[str], int]) -> TextPrior:
    """A release's neighbours by text, of items as `number` numbers their ids; none if it has no such file.

    Raises `ReleaseError` if the file is not the one in the manifest.
    """
    if TEXT_NEIGHBOURS not in release.manifest.files:
        return NO_TEXTS
    with np.load(io.BytesIO(release.read(TEXT_NEIGHBOURS)), allow_pickle=False) as file:
        item_ids = msgspec.json.decode(file["item_ids"].tobytes(), type=list[str])
        item, share = file["item"], file["share"]
    numbers = np.array([*map(number, item_ids), -1], np.int32)
    prior = TextPrior(
        np.full((int(numbers.max()) + 1, item.shape[1]), -1, np.int32),
        np.zeros((int(numbers.max()) + 1, item.shape[1]), np.float32),
    )
    prior.item[numbers[:-1]], prior.share[numbers[:-1]] = numbers[item], share
    return prior
