"""The shared encoder and the order: what moves a user's vector, and what puts candidates in order."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from anabranch.ranking.inference.onnx_model import OnnxModel
from anabranch.ranking.jit import compiled_under_lock
from anabranch.ranking.types import Positions, Vectors
from anabranch.release import GATES, READOUT, ArtifactReader

AT_ONCE = 4096
"""Rows of a recurrence that are computed at once: what they take stays within some MB."""
HALF_BITS = 13
"""Bits of a float32's mantissa that a half does not have."""
SMALLEST_NORMAL, SMALLEST = np.float32(2.0**-14), np.float32(2.0**-24)
"""Of halves: below the first they are multiples of the second."""


class EncoderInputs(NamedTuple):
    """n events in order, by which users move."""

    user: Positions
    """[n] place among the users"""
    inputs: Vectors
    """[n, d] vector of the item or query"""
    types: NDArray[np.uint8]
    """[n]"""
    seconds: NDArray[np.float32]
    """[n] since the user's event before"""

    def at(self, which: Positions | slice) -> EncoderInputs:
        """Some of them."""
        return EncoderInputs(self.user[which], self.inputs[which], self.types[which], self.seconds[which])


class UserEncoder(Protocol):
    """Moves users' vectors by events, in O(1) each.

    States and vectors are held to what half precision can tell after every event, and a row comes out the same whatever
    its company: so they do not depend on how events fell into batches.
    """

    def update(self, recurrent: Vectors, moves: EncoderInputs) -> Vectors:
        """Move `recurrent` [U, S], in place; the user vector [n, d] after each of the events."""


class OnnxStepEncoder:
    """Any encoder: step.onnx is called for each wave of events, which holds a user at most once."""

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
        seconds_since: NDArray[np.float32],
    ) -> tuple[Vectors, Vectors]:
        """(state [B, S], item or query vectors [B, d], event types [B], seconds since the last event [B])
        → (next state [B, S], user vectors [B, d]), each row the same whatever its company."""
        next_state, user_vectors = self._model.run_rows(
            state=state,
            input_vector=input_vectors,
            event_type=types.astype(np.int64),
            seconds_since=seconds_since,
        )
        return next_state, user_vectors

    def update(self, recurrent: Vectors, moves: EncoderInputs) -> Vectors:
        """See `UserEncoder`."""
        vectors = np.empty_like(moves.inputs)
        for wave in one_event_per_user_batches(moves.user):
            user, inputs, types, seconds = moves.at(wave)
            moved, vectors[wave] = self.step(recurrent[user], inputs, types, seconds)
            recurrent[user] = _halved(moved)
        return _halved(vectors)


class OnnxRecurrentEncoder:
    """A gated linear recurrence, state' = fade · state + write, whose gates do not look at the state.

    So gates.onnx is called once for many events, and readout.onnx once for the states after them; what has to be done
    in order, one event of a user after the other, is a multiplication and an addition. It is what lets such encoders
    train over whole windows (Martin and Cundy, Parallelizing Linear Recurrent Neural Nets Over Sequence Length, ICLR
    2018), used to serve.
    """

    def __init__(self, files: ArtifactReader, threads: int = 1) -> None:
        self._gates = OnnxModel(
            files, GATES, ("input_vector", "event_type", "seconds_since"), ("fade", "write", "input"), threads
        )
        self._readout = OnnxModel(files, READOUT, ("state", "input"), ("user_vector",), threads)

    def update(self, recurrent: Vectors, moves: EncoderInputs) -> Vectors:
        """See `UserEncoder`."""
        vectors = np.empty_like(moves.inputs)
        for start in range(0, len(vectors), AT_ONCE):
            part = slice(start, start + AT_ONCE)
            user, inputs, types, seconds = moves.at(part)
            fade, state, seen = self._gates.run_rows(
                input_vector=inputs, event_type=types.astype(np.int64), seconds_since=seconds
            )
            linear_recurrence(recurrent, np.ascontiguousarray(user), fade, state)
            vectors[part] = self._readout.run_rows(state=state, input=seen)[0]
        return _halved(vectors)


def _halved(values: Vectors) -> Vectors:
    """Each value as near as half precision comes to it."""
    return values.astype(np.float16).astype(np.float32)


@compiled_under_lock
def linear_recurrence(
    recurrent: Vectors,  # [U, S] to be moved
    user: Positions,  # [n] places among them
    fade: Vectors,  # [n, S]
    state: Vectors,  # [n, S] what each event writes, to become the state after it
) -> None:
    """The recurrence, event by event, each state rounded to the nearest half, of two equally near to the even one (IEEE
    754); it stays a float32.

    In several passes over a state, for which the compiler has vector instructions: one pass takes fifty times as long.
    """
    bits = state.view(np.int32)
    for n in range(len(user)):
        kept, new, new_bits = recurrent[user[n]], state[n], bits[n]
        for s in range(len(new)):
            new[s] += fade[n, s] * kept[s]
        for s in range(len(new)):
            kept[s] = np.float32(np.rint(new[s] / SMALLEST)) * SMALLEST
        for s in range(len(new)):
            odd = (new_bits[s] >> HALF_BITS) & 1
            new_bits[s] = (new_bits[s] + (1 << (HALF_BITS - 1)) - 1 + odd) & ~((1 << HALF_BITS) - 1)
        for s in range(len(new)):
            if abs(new[s]) < SMALLEST_NORMAL:
                new[s] = kept[s]
            kept[s] = new[s]


def one_event_per_user_batches(user: Positions) -> Iterator[Positions]:
    """Positions of events in waves: each user at most once a wave, a user's events in order over the waves."""
    by_user = np.argsort(user, kind="stable")
    grouped = user[by_user]
    first = np.flatnonzero(np.r_[True, grouped[1:] != grouped[:-1]])
    nth = np.arange(len(user)) - np.repeat(first, np.diff(np.r_[first, len(user)]))
    by_wave = np.argsort(nth, kind="stable")
    yield from np.split(by_user[by_wave], np.cumsum(np.bincount(nth))[:-1])
