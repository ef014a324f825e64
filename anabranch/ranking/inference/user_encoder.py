"""The user encoder: updates user states and vectors by events, with ONNX models."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from anabranch.event_types import READ_BY_ENCODERS
from anabranch.ranking.inference.onnx_model import OnnxModel
from anabranch.ranking.jit import compiled_under_lock
from anabranch.ranking.types import Floats, Positions, Vectors
from anabranch.release import GATES, READOUT, ArtifactReader

CHUNK = 4096
"""Events per call of the gate and readout models, which bounds their memory to some MB."""
FLOAT16_DROPPED_BITS = 13
"""Mantissa bits of a float32 that a float16 lacks."""
FLOAT16_MIN_NORMAL, FLOAT16_MIN_SUBNORMAL = np.float32(2.0**-14), np.float32(2.0**-24)
"""Float16 values below the first are multiples of the second."""


def encoder_types(types: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The types as which encoders read events of these types [...]."""
    return np.where(types < READ_BY_ENCODERS, types, np.uint8(0))


class EncoderInputs(NamedTuple):
    """n events in order, as inputs of the encoder."""

    user: Positions
    """[n] index of the user among those updated"""
    inputs: Vectors
    """[n, d] vector of the event's item or query"""
    types: NDArray[np.uint8]
    """[n] event types, as encoders read them: see `encoder_types`"""
    seconds: Floats
    """[n] since the user's previous event"""

    def select(self, events: Positions | slice) -> EncoderInputs:
        """The inputs of some of the events."""
        return EncoderInputs(self.user[events], self.inputs[events], self.types[events], self.seconds[events])


class UserEncoder(Protocol):
    """Updates user states and vectors in O(1) per event.

    States and vectors are rounded to float16 after every event, and a row's result does not depend on the other rows:
    so neither depends on how events were batched.
    """

    def update(self, recurrent: Vectors, events: EncoderInputs) -> Vectors:
        """Update the states `recurrent` [U, S] in place; returns the user vector [n, d] after each event."""


class OnnxStepEncoder:
    """Any encoder: step.onnx is called for batches of events with at most one event per user."""

    def __init__(self, files: ArtifactReader, threads: int = 1) -> None:
        self._model = OnnxModel(
            files,
            "step.onnx",
            ("state", "input_vector", "event_type", "seconds_since"),
            ("next_state", "user_vector"),
            threads,
        )

    def step(
        self,
        state: Vectors,
        input_vectors: Vectors,
        types: NDArray[np.uint8],
        seconds_since: Floats,
    ) -> tuple[Vectors, Vectors]:
        """(state [B, S], item or query vectors [B, d], event types [B], seconds since the last event [B])
        → (next state [B, S], user vectors [B, d]); a row's result does not depend on the other rows."""
        next_state, user_vectors = self._model.run_rows(
            state=state,
            input_vector=input_vectors,
            event_type=types.astype(np.int64),
            seconds_since=seconds_since,
        )
        return next_state, user_vectors

    def update(self, recurrent: Vectors, events: EncoderInputs) -> Vectors:
        """See `UserEncoder`."""
        vectors = np.empty_like(events.inputs)
        for batch in one_event_per_user_batches(events.user):
            user, inputs, types, seconds = events.select(batch)
            next_state, vectors[batch] = self.step(recurrent[user], inputs, types, seconds)
            recurrent[user] = _rounded_to_float16(next_state)
        return _rounded_to_float16(vectors)


class OnnxRecurrentEncoder:
    """A gated linear recurrence, state' = decay gate · state + input term, whose gates do not depend on the state.

    So gates.onnx is called once for many events, and readout.onnx once for the states after them; only a multiplication
    and an addition run sequentially over the events of a user. The same property makes such encoders train in parallel
    over whole windows (Martin and Cundy, Parallelizing Linear Recurrent Neural Nets Over Sequence Length, ICLR 2018).
    """

    def __init__(self, files: ArtifactReader, threads: int = 1) -> None:
        self._gates = OnnxModel(
            files, GATES, ("input_vector", "event_type", "seconds_since"), ("fade", "write", "input"), threads
        )
        self._readout = OnnxModel(files, READOUT, ("state", "input"), ("user_vector",), threads)

    def update(self, recurrent: Vectors, events: EncoderInputs) -> Vectors:
        """See `UserEncoder`."""
        vectors = np.empty_like(events.inputs)
        for start in range(0, len(vectors), CHUNK):
            chunk = slice(start, start + CHUNK)
            user, inputs, types, seconds = events.select(chunk)
            decay_gate, state, readout_input = self._gates.run_rows(
                input_vector=inputs, event_type=types.astype(np.int64), seconds_since=seconds
            )
            linear_recurrence(recurrent, np.ascontiguousarray(user), decay_gate, state)
            vectors[chunk] = self._readout.run_rows(state=state, input=readout_input)[0]
        return _rounded_to_float16(vectors)


def _rounded_to_float16(values: Vectors) -> Vectors:
    """The values rounded to float16 precision, as float32."""
    return values.astype(np.float16).astype(np.float32)


@compiled_under_lock
def linear_recurrence(
    recurrent: Vectors,  # [U, S] states, updated in place
    user: Positions,  # [n] index of each event's user among them
    decay_gate: Vectors,  # [n, S]
    state: Vectors,  # [n, S] the input term of each event; on return the state after it
) -> None:
    """Update the states event by event, and round each to the nearest float16, ties to even (IEEE 754), as a float32.

    Makes several passes over a state, each of which the compiler vectorises: a single pass takes fifty times as long.
    """
    bits = state.view(np.int32)
    for n in range(len(user)):
        old, new, new_bits = recurrent[user[n]], state[n], bits[n]
        for s in range(len(new)):
            new[s] += decay_gate[n, s] * old[s]
        for s in range(len(new)):  # as if subnormal; `old` is free from here on
            old[s] = np.float32(np.rint(new[s] / FLOAT16_MIN_SUBNORMAL)) * FLOAT16_MIN_SUBNORMAL
        for s in range(len(new)):  # as if normal
            odd = (new_bits[s] >> FLOAT16_DROPPED_BITS) & 1
            half_unit = 1 << (FLOAT16_DROPPED_BITS - 1)
            new_bits[s] = (new_bits[s] + half_unit - 1 + odd) & ~(2 * half_unit - 1)
        for s in range(len(new)):
            if abs(new[s]) < FLOAT16_MIN_NORMAL:
                new[s] = old[s]
            old[s] = new[s]


def one_event_per_user_batches(user: Positions) -> Iterator[Positions]:
    """Split events into batches of positions with at most one event per user; a user's events stay in order."""
    by_user = np.argsort(user, kind="stable")
    sorted_user = user[by_user]
    first = np.flatnonzero(np.r_[True, sorted_user[1:] != sorted_user[:-1]])
    nth = np.arange(len(user)) - np.repeat(first, np.diff(np.r_[first, len(user)]))
    by_batch = np.argsort(nth, kind="stable")
    yield from np.split(by_user[by_batch], np.cumsum(np.bincount(nth))[:-1])
