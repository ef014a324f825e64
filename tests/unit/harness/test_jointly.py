"""What the results call jointly trained shares nothing, so the difference from it is what sharing adds."""

from __future__ import annotations

from anabranch.harness.results.measurements import JOINTLY, TOGETHER, select
from models.experiments.training_options import TrainingOptions
from models.pipeline.presets import preset


def test_jointly_trained_is_another_encoder_than_the_shared_one() -> None:
    jointly, shared = select([JOINTLY, TOGETHER])
    strategies = jointly.options[jointly.options.index("--strategies") + 1]
    assert TrainingOptions(strategies=strategies).config("histories").strategies == ()
    assert "--strategies" not in shared.options
    assert preset("histories").strategies, "the preset shares"
    assert jointly.folders == shared.folders
