"""Learning curves for TensorBoard: `tensorboard --logdir <data_dir>/curves`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from models.training_curves import Curve


@contextmanager
def tensorboard(data_dir: Path, release: str) -> Iterator[Curve]:
    """Write a release's curves as they are told; those of an earlier run of the same name are hidden by them."""
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(data_dir / "curves" / release, purge_step=0) as writer:
        yield writer.add_scalar
