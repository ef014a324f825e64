"""Small releases with real ONNX files, made in milliseconds: every input of the contract matters to its output."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec
import numpy as np
import onnx
from numpy.typing import ArrayLike
from onnx import TensorProto, helper
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from anabranch import release
from anabranch.co_visit_rule import CoVisitRule
from anabranch.ranking.pipeline.features import FEATURES
from anabranch.ranking.pipeline.servable import ServableRelease
from anabranch.ranking.vocabulary import ItemVocabulary
from anabranch.release import DataWindow, Manifest

DIMS = 8
TEXT_DIMS = 16

Shape = Sequence[str | int]


def make_unservable(folder: Path) -> None:
    """Let a release rank by features that this version does not build, as one of another version may."""
    manifest = release.open_release(folder).manifest
    release.write(folder, msgspec.structs.replace(manifest, features=[*manifest.features, "moon phase"]))


def write_release(
    folder: Path,
    release_id: str = "r1",
    item_ids: Sequence[str] = (),
    seed: int = 0,
    parent: str | None = None,
    purchase: bool = False,
    linear: bool = True,
    features: Sequence[str] = FEATURES,
    co_visits: CoVisitRule | None = None,
) -> Manifest:
    """A complete release folder, with the purchase head if wanted, and without the parts of its step if these are not;
    another seed gives other vectors, and so other rankings. It reads the `features`."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    _write_text(folder, rng)
    _write_item(folder, rng, item_ids)
    _write_step(folder, rng, linear)
    _write_order(folder, features)
    if purchase:
        _write_purchase(folder, features)
    manifest = Manifest(
        id=release_id,
        parent=parent,
        created=0,
        dims=DIMS,
        state_dims=DIMS,
        text_dims=TEXT_DIMS,
        features=list(features),
        seeds=[],
        strategy={},
        window=DataWindow(train_from=0, order_from=0, gate_from=0, gate_to=0, events=0),
        parity={},
        gate={},
        files=release.digests(folder),
        co_visits=co_visits,
    )
    release.write(folder, manifest)
    return manifest


def live_release(folder: Path, item_ids: ItemVocabulary, catalogue: Iterable[str], number: int = 0) -> ServableRelease:
    """The release, loaded, its index holding the catalogue with each item's id as its text."""
    files = release.open_release(folder)
    live = ServableRelease.load(files, files.manifest, number)
    ids = list(catalogue)
    vectors = live.item.encode(ids, live.text.encode(ids))
    live.index.upsert(item_ids.rows(ids), vectors, np.ones(len(ids), np.bool_))
    live.index.rebuild()
    return live


def _write_text(folder: Path, rng: np.random.Generator) -> None:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={byte: number for number, byte in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel()
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.save(str(folder / "tokenizer.json"))
    nodes = [
        helper.make_node("Gather", ["bytes", "input_ids"], ["embedded"]),
        helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["mask", "last"], ["wide_mask"]),
        helper.make_node("Mul", ["embedded", "wide_mask"], ["masked"]),
        helper.make_node("ReduceSum", ["masked", "middle"], ["sum"], keepdims=0),
        helper.make_node("LpNormalization", ["sum"], ["text_vector"], axis=-1, p=2),
    ]
    _save(
        folder / "text.onnx",
        nodes,
        {"input_ids": (TensorProto.INT64, ["B", "L"]), "attention_mask": (TensorProto.INT64, ["B", "L"])},
        {"text_vector": (TensorProto.FLOAT, ["B", TEXT_DIMS])},
        {"bytes": rng.normal(size=(len(alphabet), TEXT_DIMS))},
        {"last": [-1], "middle": [1]},
    )


def _write_item(folder: Path, rng: np.random.Generator, item_ids: Sequence[str]) -> None:
    numbers = {item_id: number for number, item_id in enumerate(item_ids, start=1)}
    (folder / "items.json").write_bytes(msgspec.json.encode(numbers))
    residuals = rng.normal(size=(len(numbers) + 1, DIMS))
    residuals[0] = 0
    nodes = [
        helper.make_node("MatMul", ["text_vector", "projection"], ["projected"]),
        helper.make_node("Gather", ["residuals", "item_number"], ["residual"]),
        helper.make_node("Add", ["projected", "residual"], ["sum"]),
        helper.make_node("LpNormalization", ["sum"], ["item_vector"], axis=-1, p=2),
    ]
    _save(
        folder / "item.onnx",
        nodes,
        {"text_vector": (TensorProto.FLOAT, ["B", TEXT_DIMS]), "item_number": (TensorProto.INT64, ["B"])},
        {"item_vector": (TensorProto.FLOAT, ["B", DIMS])},
        {"projection": rng.normal(size=(TEXT_DIMS, DIMS)), "residuals": residuals},
    )


def _write_step(folder: Path, rng: np.random.Generator, linear: bool) -> None:
    """state' = state · exp(-seconds / 10⁶) + input + type; the user vector is the tanh of that and a tenth of the
    input, normalised."""
    types = rng.normal(size=(4, DIMS)) / 10
    events = {
        "input_vector": (TensorProto.FLOAT, ["B", DIMS]),
        "event_type": (TensorProto.INT64, ["B"]),
        "seconds_since": (TensorProto.FLOAT, ["B"]),
    }
    state, user_vector = (TensorProto.FLOAT, ["B", DIMS]), {"user_vector": (TensorProto.FLOAT, ["B", DIMS])}
    gates = [
        helper.make_node("Mul", ["seconds_since", "rate"], ["age"]),
        helper.make_node("Exp", ["age"], ["decay"]),
        helper.make_node("Unsqueeze", ["decay", "last"], ["wide_decay"]),
        helper.make_node("Mul", ["wide_decay", "ones"], ["fade"]),
        helper.make_node("Gather", ["types", "event_type"], ["type"]),
        helper.make_node("Add", ["input_vector", "type"], ["write"]),
        helper.make_node("Identity", ["input_vector"], ["input"]),
    ]
    recurrence = [
        helper.make_node("Mul", ["state", "fade"], ["kept"]),
        helper.make_node("Add", ["kept", "write"], ["next_state"]),
    ]
    weights: dict[str, ArrayLike] = {"rate": [-1e-6], "ones": np.ones(DIMS), "types": types}
    tenth: dict[str, ArrayLike] = {"tenth": [0.1]}
    outputs, axes = {"next_state": state} | user_vector, {"last": [-1]}
    step = [*gates, *recurrence, *_readout("next_state")]
    _save(folder / "step.onnx", step, {"state": state} | events, outputs, weights | tenth, axes)
    if linear:
        parts = {"fade": state, "write": state, "input": state}
        _save(folder / release.GATES, gates, events, parts, weights, axes)
        _save(folder / release.READOUT, _readout("state"), {"state": state, "input": state}, user_vector, tenth)


def _readout(state: str) -> list[onnx.NodeProto]:
    return [
        helper.make_node("Mul", ["input", "tenth"], ["of_input"]),
        helper.make_node("Add", [state, "of_input"], ["wish"]),
        helper.make_node("Tanh", ["wish"], ["bounded"]),
        helper.make_node("LpNormalization", ["bounded"], ["user_vector"], axis=-1, p=2),
    ]


def _write_order(folder: Path, features: Sequence[str]) -> None:
    weights = np.full((len(features), 1), 0.01)
    weights[features.index("inner_product")] = 1
    weights[features.index("repeat_rate")] = 0.5
    nodes = [
        helper.make_node("MatMul", ["features", "weights"], ["product"]),
        helper.make_node("Squeeze", ["product", "last"], ["scores"]),
    ]
    _save(
        folder / "order.onnx",
        nodes,
        {"features": (TensorProto.FLOAT, ["B", "K", len(features)])},
        {"scores": (TensorProto.FLOAT, ["B", "K"])},
        {"weights": weights},
        {"last": [-1]},
    )


def _write_purchase(folder: Path, features: Sequence[str]) -> None:
    """Purchases come by inner product and popularity."""
    weights = np.zeros((len(features), 1))
    weights[features.index("inner_product")] = 2
    weights[features.index("popularity")] = 0.1
    nodes = [
        helper.make_node("MatMul", ["features", "weights"], ["product"]),
        helper.make_node("Squeeze", ["product", "last"], ["log_odds"]),
        helper.make_node("Sigmoid", ["log_odds"], ["probability"]),
    ]
    _save(
        folder / release.PURCHASE_HEAD,
        nodes,
        {"features": (TensorProto.FLOAT, ["B", "K", len(features)])},
        {"probability": (TensorProto.FLOAT, ["B", "K"])},
        {"weights": weights},
        {"last": [-1]},
    )


def _save(
    path: Path,
    nodes: list[onnx.NodeProto],
    inputs: dict[str, tuple[int, Shape]],
    outputs: dict[str, tuple[int, Shape]],
    weights: dict[str, ArrayLike],
    axes: dict[str, list[int]] | None = None,
) -> None:
    constants = [onnx.numpy_helper.from_array(np.asarray(value, np.float32), name) for name, value in weights.items()]
    constants += [onnx.numpy_helper.from_array(np.asarray(v, np.int64), name) for name, v in (axes or {}).items()]
    graph = helper.make_graph(
        nodes,
        path.stem,
        [helper.make_tensor_value_info(name, *value) for name, value in inputs.items()],
        [helper.make_tensor_value_info(name, *value) for name, value in outputs.items()],
        constants,
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), str(path))
