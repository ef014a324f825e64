"""PyTorch modules to ONNX files, each checked against its original."""

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
Axes = dict[str, dict[int, str]]


class StepModule(nn.Module):
    """The encoder's step as a module of its own, so that the export sees `step` and not `forward`."""

    def __init__(self, encoder: LinearRecurrentUnit) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(
        self, state: Tensor, input_vector: Tensor, event_type: Tensor, seconds_since: Tensor
    ) -> tuple[Tensor, Tensor]:
        """[B, S], [B, d], [B] int64, [B] → next state [B, S], user vector [B, d]."""
        return self.encoder.step(state, input_vector, event_type, seconds_since)


class GatesModule(nn.Module):
    """What of the encoder's step does not look at the state."""

    def __init__(self, encoder: LinearRecurrentUnit) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, input_vector: Tensor, event_type: Tensor, seconds_since: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """[B, d], [B] int64, [B] → fade [B, S], write [B, S], input [B, d]: the next state is fade · state + write."""
        x, fade, write = self.encoder.fade_and_write(input_vector, event_type, seconds_since)
        return fade, write, x


class ReadoutModule(nn.Module):
    """What of the encoder's step comes after the state."""

    def __init__(self, encoder: LinearRecurrentUnit) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, state: Tensor, input: Tensor) -> Tensor:
        """Next state [B, S] and the gates' input [B, d] → user vector [B, d]."""
        return self.encoder.user_vector(state, input)


def export(module: nn.Module, inputs: tuple[Tensor, ...], path: Path, axes: Axes) -> None:
    """Trace the module into an ONNX file. `axes` names inputs, then outputs, with their dynamic dimensions."""
    names = list(axes)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tracing exporter announces its successor, which takes ten times as long
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
    """Largest absolute difference between the module's outputs and its ONNX file's."""
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_inputs()]
    actual = session.run(None, {name: value.numpy() for name, value in zip(names, inputs, strict=True)})
    with torch.no_grad():
        expected = module(*inputs)
    outputs = expected if isinstance(expected, tuple) else (expected,)
    return max(float(np.abs(one.numpy() - other).max()) for one, other in zip(outputs, actual, strict=True))


def export_encoder(encoder: SharedEncoder, folder: Path) -> dict[str, float]:
    """Write item.onnx, and the step whole and in its two parts; file name → parity.

    `scan` is the step form against the parallel form.
    """
    config = encoder.config
    item_inputs = _item_inputs(config)
    export(
        encoder.item,
        item_inputs,
        folder / "item.onnx",
        {"text_vector": {0: "B"}, "item_number": {0: "B"}, "item_vector": {0: "B"}},
    )
    step, step_inputs = StepModule(encoder.step).eval(), _step_inputs(config)
    batch = {0: "B"}
    names = ("state", "input_vector", "event_type", "seconds_since", "next_state", "user_vector")
    export(step, step_inputs, folder / "step.onnx", dict.fromkeys(names, batch))
    gates, events = GatesModule(encoder.step).eval(), step_inputs[1:]
    export(gates, events, folder / GATES, dict.fromkeys((*names[1:4], "fade", "write", "input"), batch))
    readout, read = ReadoutModule(encoder.step).eval(), (step_inputs[0], gates(*events)[2].detach())
    export(readout, read, folder / READOUT, dict.fromkeys(("state", "input", "user_vector"), batch))
    return {
        "item.onnx": parity(encoder.item, item_inputs, folder / "item.onnx"),
        "step.onnx": parity(step, step_inputs, folder / "step.onnx"),
        GATES: parity(gates, events, folder / GATES),
        READOUT: parity(readout, read, folder / READOUT),
        "scan": scan_parity(encoder.step),
    }


def export_list_ranker(order: ListRanker, folder: Path) -> dict[str, float]:
    """Write order.onnx; file name → parity."""
    features = _features(order)
    export(order, (features,), folder / "order.onnx", {"features": {0: "B", 1: "K"}, "scores": {0: "B", 1: "K"}})
    return {"order.onnx": parity(order, (features,), folder / "order.onnx")}


def export_purchase(head: PurchaseClassifier, folder: Path) -> dict[str, float]:
    """Write purchase.onnx; file name → parity."""
    features, path = _features(head.network), folder / PURCHASE_HEAD
    export(head, (features,), path, {"features": {0: "B", 1: "K"}, "probability": {0: "B", 1: "K"}})
    return {PURCHASE_HEAD: parity(head, (features,), path)}


@torch.no_grad()
def scan_parity(encoder: LinearRecurrentUnit, length: int = 64) -> float:
    """Largest absolute difference between user vectors of the parallel form and of `length` single steps."""
    config = encoder.config
    windows = [_step_inputs(config, random_seed)[1:] for random_seed in range(length)]
    vectors, types, seconds = (torch.stack(parts, dim=1) for parts in zip(*windows, strict=True))
    parallel = encoder(vectors, types, seconds)  # [B, L, d]
    state = torch.zeros(len(vectors), config.state_dims)
    difference = 0.0
    for at in range(length):
        state, user = encoder.step(state, vectors[:, at], types[:, at], seconds[:, at])
        difference = max(difference, float((user - parallel[:, at]).abs().max()))
    return difference


def _features(order: ListRanker) -> Tensor:
    """[B, K, F] as the network has seen them."""
    return order.mean + order.deviation * torch.randn(3, 7, len(order.mean), generator=_seeded())


def _item_inputs(config: EncoderConfig) -> tuple[Tensor, Tensor]:
    random = _seeded()
    numbers = torch.randint(0, config.items, (5,), generator=random)
    numbers[0] = 0  # an unknown item is part of the contract
    return torch.randn(5, config.text_dims, generator=random), numbers


def _step_inputs(config: EncoderConfig, random_seed: int = 0, batch: int = 5) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    random = _seeded(random_seed)
    vectors = nn.functional.normalize(torch.randn(batch, config.dims, generator=random), dim=-1)
    types = torch.randint(0, config.event_types, (batch,), generator=random)
    seconds = torch.rand(batch, generator=random) ** 8 * 30 * 24 * 3600  # most gaps short, a few of weeks
    return torch.randn(batch, config.state_dims, generator=random), vectors, types, seconds


def _seeded(random_seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(random_seed)
