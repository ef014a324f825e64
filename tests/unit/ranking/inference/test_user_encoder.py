"""What every encoder promises: by its step, and by its recurrence."""

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
from models.networks.encoder import EncoderConfig
from models.networks.encoder import SharedEncoder as TrainedEncoder
from models.networks.onnx_export import export_encoder

CONFIG = EncoderConfig(items=3, text_dims=12, white_dims=8, dims=8, state_dims=16)
USERS, EVENTS = 7, 5000


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("encoder")
    export_encoder(TrainedEncoder(CONFIG).eval(), made)
    return made


@pytest.fixture(params=[OnnxStepEncoder, OnnxRecurrentEncoder])
def encoder(request: pytest.FixtureRequest, folder: Path) -> UserEncoder:
    made: UserEncoder = request.param(UnverifiedRelease(folder))
    return made


@pytest.fixture(scope="module")
def events() -> EncoderInputs:
    random = np.random.default_rng(0)
    return EncoderInputs(
        random.integers(USERS, size=EVENTS),
        random.normal(size=(EVENTS, CONFIG.dims)).astype(np.float32),
        random.integers(4, size=EVENTS).astype(np.uint8),
        (random.random(EVENTS) ** 8 * 1e6).astype(np.float32),
    )


def blank() -> NDArray[np.float32]:
    return np.zeros((USERS, CONFIG.state_dims), np.float32)


def test_users_do_not_depend_on_how_events_fell_into_batches(encoder: UserEncoder, events: EncoderInputs) -> None:
    at_once, bit_by_bit = blank(), blank()
    vectors = encoder.update(at_once, events)
    cuts = np.sort(np.random.default_rng(1).integers(EVENTS, size=40)).tolist()
    parts = [
        encoder.update(bit_by_bit, events.at(slice(start, end)))
        for start, end in zip([0, *cuts], [*cuts, EVENTS], strict=True)
    ]
    assert np.array_equal(np.concatenate(parts), vectors)
    assert np.array_equal(bit_by_bit, at_once)


def test_users_do_not_depend_on_their_company(encoder: UserEncoder, events: EncoderInputs) -> None:
    together, alone = blank(), blank()
    vectors = encoder.update(together, events)
    for user in range(USERS):
        mine = events[0] == user
        assert np.array_equal(encoder.update(alone, events.at(np.flatnonzero(mine))), vectors[mine])
    assert np.array_equal(alone, together)


def test_states_and_vectors_are_halves(encoder: UserEncoder, events: EncoderInputs) -> None:
    recurrent = blank()
    vectors = encoder.update(recurrent, events)
    for values in (recurrent, vectors):
        assert values.any() and np.array_equal(values, values.astype(np.float16))


def test_no_event_moves_nobody(encoder: UserEncoder, events: EncoderInputs) -> None:
    recurrent = blank()
    assert encoder.update(recurrent, events.at(slice(0))).shape == (0, CONFIG.dims)
    assert not recurrent.any()


def test_the_recurrence_is_the_step(folder: Path, events: EncoderInputs) -> None:
    by_step, by_parts = blank(), blank()
    vectors = OnnxStepEncoder(UnverifiedRelease(folder)).update(by_step, events)
    assert (
        np.abs(OnnxRecurrentEncoder(UnverifiedRelease(folder)).update(by_parts, events) - vectors).max()
        < 0.02 * np.abs(vectors).max()
    )
    assert np.abs(by_parts - by_step).max() < 0.01 * np.abs(by_step).max()


def test_a_state_is_rounded_to_the_half_that_numpy_rounds_it_to() -> None:
    random = np.random.default_rng(0)
    written = np.concatenate(
        [
            (random.normal(size=20_000) * 2.0 ** random.integers(-30, 15, 20_000)).astype(np.float32),
            np.array([0, -0.0, 1, 1 + 2**-11, 1 + 3 * 2**-11, 2**-14, 2**-24, 2**-25, 3 * 2**-25], np.float32),
        ]
    )[None]
    expected = written.astype(np.float16).astype(np.float32)
    recurrent, one = np.zeros_like(written), np.ones_like(written)
    linear_recurrence(recurrent, np.zeros(1, np.int64), one, written)
    assert np.array_equal(written, expected) and np.array_equal(recurrent, expected)
