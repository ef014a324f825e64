"""The contract of user encoders, for the step and for the recurrent implementation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from anabranch.ranking.inference.user_encoder import (
    EncoderInputs,
    OnnxRecurrentEncoder,
    OnnxStepEncoder,
    UserEncoder,
    linear_recurrence,
)
from anabranch.release import UnverifiedRelease
from models.networks.encoder import EncoderConfig, SharedEncoder
from models.networks.onnx_export import export_encoder

CONFIG = EncoderConfig(items=3, text_dims=12, white_dims=8, dims=8, state_dims=16)
USERS, EVENTS = 7, 5000


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    created = tmp_path_factory.mktemp("encoder")
    export_encoder(SharedEncoder(CONFIG).eval(), created)
    return created


@pytest.fixture(params=[OnnxStepEncoder, OnnxRecurrentEncoder])
def encoder(request: pytest.FixtureRequest, folder: Path) -> UserEncoder:
    created: UserEncoder = request.param(UnverifiedRelease(folder))
    return created


@pytest.fixture(scope="module")
def events() -> EncoderInputs:
    random = np.random.default_rng(0)
    return EncoderInputs(
        random.integers(USERS, size=EVENTS),
        random.normal(size=(EVENTS, CONFIG.dims)).astype(np.float32),
        random.integers(4, size=EVENTS).astype(np.uint8),
        (random.random(EVENTS) ** 8 * 1e6).astype(np.float32),
    )


def initial_states() -> NDArray[np.float32]:
    return np.zeros((USERS, CONFIG.state_dims), np.float32)


def test_states_do_not_depend_on_the_batching_of_events(encoder: UserEncoder, events: EncoderInputs) -> None:
    in_one_batch, in_parts = initial_states(), initial_states()
    vectors = encoder.update(in_one_batch, events)
    cuts = np.sort(np.random.default_rng(1).integers(EVENTS, size=40)).tolist()
    parts = [
        encoder.update(in_parts, events.select(slice(start, end)))
        for start, end in zip([0, *cuts], [*cuts, EVENTS], strict=True)
    ]
    assert np.array_equal(np.concatenate(parts), vectors)
    assert np.array_equal(in_parts, in_one_batch)


def test_a_user_does_not_depend_on_the_other_users(encoder: UserEncoder, events: EncoderInputs) -> None:
    together, alone = initial_states(), initial_states()
    vectors = encoder.update(together, events)
    for user in range(USERS):
        of_user = events[0] == user
        assert np.array_equal(encoder.update(alone, events.select(np.flatnonzero(of_user))), vectors[of_user])
    assert np.array_equal(alone, together)


def test_states_and_vectors_have_float16_precision(encoder: UserEncoder, events: EncoderInputs) -> None:
    recurrent = initial_states()
    vectors = encoder.update(recurrent, events)
    for values in (recurrent, vectors):
        assert values.any() and np.array_equal(values, values.astype(np.float16))


def test_an_empty_batch_changes_no_state(encoder: UserEncoder, events: EncoderInputs) -> None:
    recurrent = initial_states()
    assert encoder.update(recurrent, events.select(slice(0))).shape == (0, CONFIG.dims)
    assert not recurrent.any()


def test_the_recurrent_encoder_agrees_with_the_step_encoder(folder: Path, events: EncoderInputs) -> None:
    by_step, by_recurrence = initial_states(), initial_states()
    vectors = OnnxStepEncoder(UnverifiedRelease(folder)).update(by_step, events)
    assert (
        np.abs(OnnxRecurrentEncoder(UnverifiedRelease(folder)).update(by_recurrence, events) - vectors).max()
        < 0.02 * np.abs(vectors).max()
    )
    assert np.abs(by_recurrence - by_step).max() < 0.01 * np.abs(by_step).max()


def test_states_are_rounded_to_float16_as_numpy_rounds_them() -> None:
    random = np.random.default_rng(0)
    written = np.concatenate(
        [
            (random.normal(size=20_000) * 2.0 ** random.integers(-30, 15, 20_000)).astype(np.float32),
            np.array([0, -0.0, 1, 1 + 2**-11, 1 + 3 * 2**-11, 2**-14, 2**-24, 2**-25, 3 * 2**-25], np.float32),
        ]
    )[None]
    expected = written.astype(np.float16).astype(np.float32)
    recurrent, decay_gate = np.zeros_like(written), np.ones_like(written)
    linear_recurrence(recurrent, np.zeros(1, np.int64), decay_gate, written)
    assert np.array_equal(written, expected) and np.array_equal(recurrent, expected)
