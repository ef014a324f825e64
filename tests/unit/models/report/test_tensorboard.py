from __future__ import annotations

from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from models.report.tensorboard import tensorboard


def curves(data_dir: Path, release: str) -> dict[str, list[tuple[int, float]]]:
    """As TensorBoard shows them."""
    shown = EventAccumulator(str(data_dir / "curves" / release)).Reload()
    return {name: [(each.step, each.value) for each in shown.Scalars(name)] for name in shown.Tags()["scalars"]}


def test_tensorboard_shows_what_training_told(tmp_path: Path) -> None:
    with tensorboard(tmp_path, "r0001") as curve:
        curve("sharing/loss_log", 2.5, 1)
        curve("sharing/loss_log", 2.0, 2)
        curve("catching up/loss_log", 1.5, 1)
    assert curves(tmp_path, "r0001") == {
        "sharing/loss_log": [(1, 2.5), (2, 2.0)],
        "catching up/loss_log": [(1, 1.5)],
    }


def test_a_run_of_a_name_used_before_is_shown_in_place_of_the_earlier_one(tmp_path: Path) -> None:
    for values in ([9.0, 8.0, 7.0], [5.0, 4.0]):
        with tensorboard(tmp_path, "r0001") as curve:
            for step, value in enumerate(values, start=1):
                curve("order/loss", value, step)
    assert curves(tmp_path, "r0001") == {"order/loss": [(1, 5.0), (2, 4.0)]}


def test_curves_that_were_being_told_when_training_failed_are_kept(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), tensorboard(tmp_path, "r0001") as curve:
        curve("order/loss", 9.0, 1)
        raise RuntimeError
    assert curves(tmp_path, "r0001") == {"order/loss": [(1, 9.0)]}
