"""Export of the PyTorch networks to ONNX files. Each file is checked against its network."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import onnxruntime as ort
import torch
from torch import Tensor, nn

from anabranch.release import GATES, PURCHASE_HEAD, READOUT
from models.networks.encoder import EncoderConfig, LinearRecurrentUnit, SharedEncoder
from models.networks.list_ranker import ListRanker
from models.networks.purchase_head import PurchaseClassifier

OPSET = 17
BATCH = {0: "B"}
LISTS = {0: "B", 1: "K"}
Axes = dict[str, dict[int, str]]
"""Input or output name → its dynamic dimensions."""


class StepModule(nn.Module):
    """The recurrent unit's `step` as a module, because the export traces `forward`."""

    def __init__(self, encoder: LinearRecurrentUnit) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(
        self, state: Tensor, input_vector: Tensor, event_type: Tensor, seconds_since: Tensor
    ) -> tuple[Tensor, Tensor]:
        """[B, S], [B, d], [B] int64, [B] → next state [B, S], user vector [B, d]."""
        return self.encoder.step(state, input_vector, event_type, seconds_since)


class GatesModule(nn.Module):
    """The part of the step that does not depend on the state."""

    def __init__(self, encoder: LinearRecurrentUnit) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, input_vector: Tensor, event_type: Tensor, seconds_since: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """[B, d], [B] int64, [B] → decay [B, S], update [B, S], x [B, d]: the next state is decay · state + update."""
        x, decay, update = self.encoder.recurrence_terms(input_vector, event_type, seconds_since)
        return decay, update, x


class ReadoutModule(nn.Module):
    """The part of the step that follows the state."""

    def __init__(self, encoder: LinearRecurrentUnit) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, state: Tensor, x: Tensor) -> Tensor:
        """Next state [B, S] and x [B, d] from `GatesModule` → user vector [B, d]."""
        return self.encoder.user_vector(state, x)


def export(module: nn.Module, inputs: tuple[Tensor, ...], path: Path, axes: Axes) -> None:
    """Trace the module into an ONNX file. `axes` lists inputs, then outputs."""
    names = list(axes)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tracing exporter recommends its successor, which takes ten times as long
        torch.onnx.export(
            module.eval(),
            inputs,
            str(path),
            input_names=names[: len(inputs)],
            output_names=names[len(inputs) :],
            dynamic_axes=axes,
            opset_version=OPSET,
            dynamo=False,
        )


def parity(module: nn.Module, inputs: tuple[Tensor, ...], path: Path) -> float:
    """Largest absolute difference between the outputs of the module and of its ONNX file."""
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_inputs()]
    actual = session.run(None, {name: value.numpy() for name, value in zip(names, inputs, strict=True)})
    with torch.no_grad():
        expected = module(*inputs)
    outputs = expected if isinstance(expected, tuple) else (expected,)
    return max(float(np.abs(ours.numpy() - theirs).max()) for ours, theirs in zip(outputs, actual, strict=True))


def export_encoder(encoder: SharedEncoder, folder: Path) -> dict[str, float]:
    """Write item.onnx, step.onnx, and the step's two parts. Returns file name → parity.

    The entry `scan` is the largest absolute difference between the parallel form and single steps.
    """
    item_inputs = _item_inputs(encoder.config)
    state, *event = _step_inputs(encoder.config)
    step, gates, readout = (
        module(encoder.step).eval() for module in (StepModule, GatesModule, ReadoutModule)
    )  # fmt: skip
    x = gates(*event)[2].detach()
    event_axes = dict.fromkeys(("input_vector", "event_type", "seconds_since"), BATCH)
    step_axes = {"state": BATCH, **event_axes, "next_state": BATCH, "user_vector": BATCH}
    item_axes = dict.fromkeys(("text_vector", "item_number", "item_vector"), BATCH)
    return {
        "item.onnx": _export_checked(encoder.item, item_inputs, folder / "item.onnx", item_axes),
        "step.onnx": _export_checked(step, (state, *event), folder / "step.onnx", step_axes),
        GATES: _export_checked(
            gates, tuple(event), folder / GATES, {**event_axes, "fade": BATCH, "write": BATCH, "input": BATCH}
        ),
        READOUT: _export_checked(
            readout, (state, x), folder / READOUT, {"state": BATCH, "input": BATCH, "user_vector": BATCH}
        ),
        "scan": scan_parity(encoder.step),
    }


def export_list_ranker(ranker: ListRanker, folder: Path) -> dict[str, float]:
    """Write order.onnx. Returns file name → parity."""
    axes = {"features": LISTS, "scores": LISTS}
    return {"order.onnx": _export_checked(ranker, (_features(ranker),), folder / "order.onnx", axes)}


def export_purchase_head(classifier: PurchaseClassifier, folder: Path) -> dict[str, float]:
    """Write purchase.onnx. Returns file name → parity."""
    features, axes = _features(classifier.network), {"features": LISTS, "probability": LISTS}
    return {PURCHASE_HEAD: _export_checked(classifier, (features,), folder / PURCHASE_HEAD, axes)}


@torch.no_grad()
def scan_parity(encoder: LinearRecurrentUnit, length: int = 64) -> float:
    """Largest absolute difference between user vectors of the parallel form and of `length` single steps."""
    config = encoder.config
    windows = [_step_inputs(config, random_seed)[1:] for random_seed in range(length)]
    vectors, types, seconds = (torch.stack(parts, dim=1) for parts in zip(*windows, strict=True))
    parallel = encoder(vectors, types, seconds)  # [B, L, d]
    state = torch.zeros(len(vectors), config.state_dims)
    difference = 0.0
    for event in range(length):
        state, user = encoder.step(state, vectors[:, event], types[:, event], seconds[:, event])
        difference = max(difference, float((user - parallel[:, event]).abs().max()))
    return difference


def _export_checked(module: nn.Module, inputs: tuple[Tensor, ...], path: Path, axes: Axes) -> float:
    """Export the module, and return its parity."""
    export(module, inputs, path, axes)
    return parity(module, inputs, path)


def _features(ranker: ListRanker) -> Tensor:
    """Features [B, K, F] with the mean and deviation of the ranker's training data."""
    return ranker.mean + ranker.deviation * torch.randn(3, 7, len(ranker.mean), generator=_generator())


def _item_inputs(config: EncoderConfig) -> tuple[Tensor, Tensor]:
    random = _generator()
    numbers = torch.randint(0, config.items, (5,), generator=random)
    numbers[0] = 0  # the served file must also take items without a residual
    return torch.randn(5, config.text_dims, generator=random), numbers


def _step_inputs(config: EncoderConfig, random_seed: int = 0, batch: int = 5) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    random = _generator(random_seed)
    vectors = nn.functional.normalize(torch.randn(batch, config.dims, generator=random), dim=-1)
    types = torch.randint(0, config.event_types, (batch,), generator=random)
    seconds = torch.rand(batch, generator=random) ** 8 * 30 * 24 * 3600  # most gaps are short, a few last weeks
    return torch.randn(batch, config.state_dims, generator=random), vectors, types, seconds


def _generator(random_seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(random_seed)
