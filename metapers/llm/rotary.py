"""Rotary position embedding: pairs of features turned by angles that grow with the position.

Reference:
  Su et al. 2021, arXiv:2104.09864.
"""

import math
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from metapers.core.types import Array, Float, Int

Turns = tuple[Array, Array]  # cosine and sine [B, L, D / 2] of the angles


class Stretch(NamedTuple):
  """How Llama 3.1 turns slow pairs more slowly, for texts longer than it was first trained on.

  factor: by which. low, high: pairs that turn fewer than `low` times in `length` positions are
  slowed by the whole factor, those that turn more than `high` times not at all, others in part.
  """

  factor: float
  low: float
  high: float
  length: int


class Rope(NamedTuple):
  """theta: pair i of D / 2 turns by theta^(-2 i / D) a position. stretch: or more slowly."""

  theta: float = 10_000.0
  stretch: Stretch | None = None


def frequencies(rope: Rope, head_size: int) -> np.ndarray:
  """Returns the angles [D / 2] by which the pairs of a head turn from one position to the next.

  They are rounded to float32 where torch rounds: thousands of positions on, an angle is off by as
  many times the last digit.
  """
  exponents = np.arange(0, head_size, 2, dtype=np.float32) / np.float32(head_size)
  periods = (rope.theta ** exponents.astype(np.float64)).astype(np.float32)
  plain = np.float32(1) / periods
  if rope.stretch is None:
    return plain
  factor, low, high, length = map(np.float32, rope.stretch)
  num_turns = length / (np.float32(2 * math.pi) / plain)
  kept = np.clip((num_turns - low) / (high - low), 0, 1)
  return (1 - kept) * plain / factor + kept * plain


def turns(rope: Rope, head_size: int, positions: Int[Array, 'B L']) -> Turns:
  """Returns cosine and sine of the angles at some positions, in float32."""
  angles = positions[..., None].astype(jnp.float32) * frequencies(rope, head_size)[None, None]
  return jnp.cos(angles), jnp.sin(angles)


def rotate(x: Float[Array, 'B L H D'], turns: Turns) -> Float[Array, 'B L H D']:
  """Returns turned heads; feature i makes a pair with i + D / 2, as in published weights."""
  cosine, sine = (part[:, :, None].astype(x.dtype) for part in turns)
  first, second = jnp.split(x, 2, -1)
  return jnp.concatenate([first * cosine - second * sine, second * cosine + first * sine], -1)
