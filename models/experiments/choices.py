"""What the options of `share`, `evaluate` and `reshare` can be. Imports nothing, so that `--help` stays fast."""

from __future__ import annotations

from enum import StrEnum


class EvaluationProtocol(StrEnum):
    """How data is divided into events to learn from and events to predict."""

    SESSIONS = "sessions"
    LEAVE_ONE_OUT = "leave-one-out"
    WEEKLY = "weekly"
    TIME_SPLIT = "time-split"
    PREQUENTIAL = "prequential"


class TrainingRows(StrEnum):
    """Which events of a leave-one-out data set a release is trained on. The test is predicted from all before it."""

    TRAIN = "train"
    TRAIN_AND_VALIDATION = "train+validation"


class DataKind(StrEnum):
    """What the order of events means. It selects the preset of the training: see `models.pipeline.presets`."""

    SESSIONS = "sessions"
    HISTORIES = "histories"
    LONG_HISTORIES = "long_histories"
    BASKETS = "baskets"


class WeeklyUpdate(StrEnum):
    """How the model of a week is made: see `models.experiments.continual`."""

    SHARED = "shared"
    RETRAINED = "retrained"
    FINE_TUNED = "fine_tuned"
    CO_VISIT = "co_visit"


class TextAdapterKind(StrEnum):
    """How the text transformer is adapted to the items of the events."""

    NONE = "none"
    LORA = "lora"
    ADALORA = "adalora"


EACH_PART = "each"
"""What `--without` takes for every part that a ranking uses."""
KIND_OF_FOLDERS = {
    EvaluationProtocol.SESSIONS: DataKind.SESSIONS,
    EvaluationProtocol.LEAVE_ONE_OUT: DataKind.HISTORIES,
    EvaluationProtocol.WEEKLY: DataKind.SESSIONS,
}
"""Protocols that read folders of parquet files in the neutral format (see `models.data.datasets`), and the kind of that
data where the user does not name one; histories may be found to be long. The other protocols read a file of events, in
which the kind is found."""
