"""Learning curves for TensorBoard: `tensorboard --logdir <data_dir>/curves`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from models.training_curves import Curve


@contextmanager
def tensorboard(data_dir: Path, release: str) -> Iterator[Curve]:
    """Write a release's curves while it trains. They replace the curves of an earlier run with the same name."""
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(data_dir / "curves" / release, purge_step=0) as writer:
        yield writer.add_scalar
