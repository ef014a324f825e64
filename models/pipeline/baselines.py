"""The baselines by name, each by the rule that was tuned for the kind of data."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from models.co_visit.text_neighbours import text_neighbours
from models.evaluation.baselines import Baseline, PersonalFrequency, Popularity
from models.knn.session_knn import SessionKnn
from models.knn.user_knn import UserKnn
from models.pipeline.config import ReleaseCandidateConfig
from models.seeds.seed_model import Vectors

BASELINES: dict[str, Callable[[ReleaseCandidateConfig, Vectors | None], Baseline]] = {
    "popularity": lambda config, text_vectors: Popularity(),
    "personal_frequency": lambda config, text_vectors: PersonalFrequency(),
    "co_visit": lambda config, text_vectors: config.co_visit_model(text_neighbours(config.co_visits, text_vectors)),
    "session_knn": lambda config, text_vectors: SessionKnn(config.session_knn),
    "user_knn": lambda config, text_vectors: UserKnn(config.user_knn),
}
"""Name → an untrained baseline."""


def make_baselines(
    config: ReleaseCandidateConfig,
    text_vectors: Vectors | None = None,
    names: Sequence[str] = tuple(BASELINES),
) -> list[Baseline]:
    """Untrained baselines by name. Text vectors [C, T], whose rows are item numbers, are for the co-visits' text prior;
    without them the co-visit baseline has no such prior."""
    return [BASELINES[name](config, text_vectors) for name in names]


def other_baselines(config: ReleaseCandidateConfig) -> list[Baseline]:
    """All but the co-visits, which are fitted to a log at once."""
    return make_baselines(config, names=[name for name in BASELINES if name != "co_visit"])
