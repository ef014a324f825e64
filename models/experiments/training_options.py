"""From the options of a command to the configuration of a release candidate."""

from __future__ import annotations

from dataclasses import dataclass, replace

from anabranch.errors import UsageError
from anabranch.settings import DEFAULTS, Settings
from models.experiments.choices import TextAdapterKind
from models.networks.text_transformer import TextConfig
from models.pipeline.config import ReleaseCandidateConfig, SearchConfig
from models.pipeline.presets import STRATEGIES, Kind, preset
from models.sharing.strategy import Strategy


@dataclass(frozen=True)
class TrainingOptions:
    """How a release candidate is trained."""

    random_seed: int = 0
    threads: int = 2
    strategies: str | None = None
    """Names of sharing strategies, separated by commas, or `none`; None: those of the preset."""
    search_seconds: float = 0.0
    """CPU seconds of the hyperparameter search; 0: no search."""
    text_model: str | None = None
    """Folder or Hugging Face id of the text transformer; None: the default."""
    text_adapter: TextAdapterKind = TextAdapterKind.NONE
    rankers: Settings = DEFAULTS
    """Settings of the rankers that are to serve the release."""
    comparison_points: int = ReleaseCandidateConfig.comparison_points
    """Prediction points that compare the seed models with the shared ranking; 0: no comparison."""

    def config(self, kind: Kind) -> ReleaseCandidateConfig:
        """The preset of the data's kind, with what the options change. Raises `UsageError`."""
        default = preset(kind, self.random_seed, self.threads).for_rankers(self.rankers)
        return replace(
            default,
            text=TextConfig(model=self.text_model, adapter=self.text_adapter.value),
            search=SearchConfig(cpu_seconds=self.search_seconds) if self.search_seconds else default.search,
            comparison_points=self.comparison_points,
            strategies=default.strategies if self.strategies is None else tuple(_strategies(self.strategies)),
        )


def _strategies(text: str) -> list[Strategy]:
    names = [] if text == "none" else [name.strip() for name in text.split(",")]
    unknown = [name for name in names if name not in STRATEGIES]
    if unknown:
        raise UsageError(
            f"--strategies: unknown {', '.join(unknown)}; the strategies are {', '.join(STRATEGIES)}, or `none`"
        )

    return [STRATEGIES[name]() for name in names]
