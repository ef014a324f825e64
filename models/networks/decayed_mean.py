"""The encoder that needs no training: item vectors are text vectors, and a user vector is the decayed mean of them.

It is a `SharedEncoder` whose weights are set, not learned, so it is exported and served like any other.
"""

from __future__ import annotations

import math

import torch
from torch import nn

from models.networks.encoder import EncoderConfig, SharedEncoder
from models.networks.whitening import Vectors, whitening

DECAY_PER_EVENT = 0.8
"""Weight of an event relative to the user's next one."""
OPEN_GATE = 20.0
"""Bias of a gate that is always open: its sigmoid is 1 in single precision."""
NO_HOURLY_DECAY = -20.0
"""Logarithm of the decay by hours that makes it 0 in single precision."""


@torch.no_grad()
def decayed_mean_encoder(text_vectors: Vectors, dims: int = 64) -> SharedEncoder:
    """An encoder of `dims` dimensions for texts like those of `text_vectors` [n, T].

    An item vector is the direction of the text vector's leading whitened dimensions. A user vector is the direction of
    sum(0.8^k · item vector of the k-th newest event).
    """
    text_dims = text_vectors.shape[1]
    encoder = SharedEncoder(
        EncoderConfig(items=1, text_dims=text_dims, white_dims=dims, dims=dims, state_dims=dims, dropout=0.0)
    )
    mean, matrix = whitening(text_vectors, dims)
    encoder.item.text_mean.copy_(mean)
    encoder.item.whitening[:, : matrix.shape[1]] = matrix  # text vectors may have fewer dimensions
    _sum_decayed_inputs(encoder)
    return encoder.eval()


def _sum_decayed_inputs(encoder: SharedEncoder) -> None:
    """Set the recurrent unit: next state = 0.8 · state + input vector; user vector = direction of the state."""
    step, dims = encoder.step, encoder.config.dims
    rate = -math.log(DECAY_PER_EVENT)
    for layer in (step.type_vector, step.gate, step.decay_gate, step.read, step.recent, step.out, step.linear_skip):
        nn.init.zeros_(layer.weight)
    for biased in (step.read, step.out, step.input_term):
        nn.init.zeros_(biased.bias)
    nn.init.constant_(step.gate.bias, OPEN_GATE)
    nn.init.constant_(step.decay_gate.bias, math.log(math.expm1(rate)))  # the inverse of softplus
    nn.init.constant_(step.log_hourly_decay, NO_HOURLY_DECAY)
    nn.init.eye_(step.input_term.weight)
    step.input_term.weight /= dims**0.5 * math.sqrt(1 - math.exp(-2 * rate))  # undo the unit's scaling of its input
    nn.init.eye_(step.skip.weight)
