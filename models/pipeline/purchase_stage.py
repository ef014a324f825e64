"""The purchase head's stage: it learns on moments that neither the encoder nor the co-visit table knows, as in serving.

Labels need the days of the horizon, so the moments with labels lie well before the newest event. A first release's
encoder has not been trained on them yet when its list ranker is. The parent of a child has: it was trained up to the
days that are new. So a release keeps its encoder as it was before fine-tuning, and its child computes the features of
older moments with that one.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from safetensors.torch import load as load_weights
from safetensors.torch import save_file

from anabranch.ranking.inference.item_encoder import item_numbers
from anabranch.release import Release
from models.data.event_log import EventLog
from models.data.purchase_examples import PurchaseExamples
from models.metrics.calibration import PurchaseMetrics
from models.networks.encoder import SharedEncoder
from models.networks.onnx_export import export_encoder
from models.networks.purchase_head import PurchaseClassifier, fit_purchase_head
from models.offline.offline_ranker import OfflineRanker
from models.offline.purchase_examples import PURCHASE, purchase_examples
from models.pipeline.catalogue import ITEMS, Catalogue
from models.pipeline.config import PipelineInputs, ReleaseCandidateConfig
from models.pipeline.encoder_stage import count_co_visits, load_encoder
from models.pipeline.list_ranker_stage import load_ranker
from models.stages import Stages

HELD_BACK_WEIGHTS = "encoder_held_back.safetensors"
"""File of the encoder's weights before it was trained on the list ranker's window. Only releases of logs with purchases
have it."""
SERVED_WITH = ("text.onnx", "tokenizer.json", "order.onnx")
"""Files of the candidate that the held-back encoder of its parent serves with."""


@dataclass(frozen=True)
class UnseenMoments:
    """The events from `from_ms` on, and a ranker that knows none of them; its list ranker is the candidate's."""

    ranker: OfflineRanker
    from_ms: int


def hold_back(encoder: SharedEncoder, log: EventLog, folder: Path) -> None:
    """Keep the encoder as it is before fine-tuning for the purchase head of a child."""
    if (log.type == PURCHASE).any():
        save_file(encoder.state_dict(), folder / HELD_BACK_WEIGHTS)


def unseen_moments(
    inputs: PipelineInputs,
    catalogue: Catalogue,
    ranker: OfflineRanker,
    folder: Path,
    config: ReleaseCandidateConfig,
) -> UnseenMoments:
    """The moments that the purchase head learns on.

    `ranker` knows the events before the list ranker's window; it serves if the moments begin there. If they begin
    earlier, the encoder that the parent held back does, with the candidate's list ranker from `folder`, and co-visits
    that are fitted to the events before the moments. Without one the moments begin at the list ranker's window.
    """
    from_ms, parent = inputs.purchases_from_ms or inputs.order_from_ms, inputs.parent
    if from_ms >= inputs.order_from_ms or parent is None or HELD_BACK_WEIGHTS not in parent.manifest.files:
        return UnseenMoments(ranker, max(from_ms, inputs.order_from_ms))
    from_ms = max(from_ms, parent.manifest.window.order_from)
    with TemporaryDirectory(dir=folder) as scratch:
        encoder = _write_held_back(parent, folder, Path(scratch))
        table = count_co_visits(inputs.log.split(from_ms)[0], catalogue, config).table(config.policy.neighbours)
        return UnseenMoments(load_ranker(inputs, catalogue, table, Path(scratch), encoder.config, config), from_ms)


def train_purchase_head(
    log: EventLog, moments: UnseenMoments, config: ReleaseCandidateConfig, stages: Stages
) -> tuple[PurchaseClassifier, PurchaseMetrics]:
    """Train the purchase head and measure it. Raises `NoPurchaseHead` if the log has too few purchases."""
    examples = _examples(log, moments, config, stages)
    settings = config.purchase
    trained, curve = max(len(examples) * settings.epochs, 1), stages.curves.for_stage("purchase head")
    with stages("purchase head") as done:
        return fit_purchase_head(examples, settings, config.random_seed, lambda n: done(n / trained), curve)


def _examples(
    log: EventLog, moments: UnseenMoments, config: ReleaseCandidateConfig, stages: Stages
) -> PurchaseExamples:
    before, after = log.split(moments.from_ms)
    events, settings = max(len(log), 1), config.purchase.examples
    with stages("purchase examples") as done:
        return purchase_examples(
            moments.ranker, before, after, settings, config.random_seed, lambda n: done(n / events)
        )


def _write_held_back(parent: Release, candidate: Path, folder: Path) -> SharedEncoder:
    """Write the parent's held-back encoder, and the candidate's files that it serves with, into `folder`."""
    numbers = item_numbers(parent)
    encoder = load_encoder(load_weights(parent.read(HELD_BACK_WEIGHTS)), len(numbers) + 1)
    export_encoder(encoder.eval(), folder)
    (folder / ITEMS).write_bytes(parent.read(ITEMS))
    for name in SERVED_WITH:
        (folder / name).write_bytes((candidate / name).read_bytes())
    return encoder
