"""Where soft prompts stand: [pads][BOS][user tokens][rest of the prompt], as published.

Reference:
  Li et al. 2024 (P-RLHF), arXiv:2402.05133, whose code puts them there.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from metapers.core.types import Array, Bool, Float


class Inputs(NamedTuple):
  """What a decoder reads; padding is False in the mask."""

  embeddings: Float[Array, '*batch L W']
  mask: Bool[Array, '*batch L']


def with_soft_prompt(
  inputs: Inputs,
  soft: Float[Array, '*batch T W'],
  *,
  has_bos: bool,
  soft_mask: Bool[Array, '*batch T'] | None = None,
) -> Inputs:
  """Returns a prompt with T soft tokens in it, at L + T positions.

  Args:
    inputs: a prompt, padded on the left; a response may follow, padded on the right.
    soft: soft tokens of the prompt's user.
    has_bos: the first real token begins every text, and stays before the soft ones. They stand
      first where the model's texts have no such token.
    soft_mask: which of the soft tokens are real; all by default.
  """
  length, num_soft = inputs.embeddings.shape[-2], soft.shape[-2]
  first = jnp.where(inputs.mask.any(-1), jnp.argmax(inputs.mask, -1), length)
  start = jnp.minimum(first + int(has_bos), length)[..., None]
  places = jnp.arange(length + num_soft).reshape((1,) * (start.ndim - 1) + (-1,))
  # Rows of the prompt with the soft ones after it.
  rows = jnp.where(places < start, places, places - num_soft)
  is_soft = (places >= start) & (places < start + num_soft)
  rows = jnp.where(is_soft, length + places - start, rows)
  both = jnp.concatenate([inputs.embeddings, soft.astype(inputs.embeddings.dtype)], -2)
  is_real = jnp.ones(soft.shape[:-1], bool) if soft_mask is None else soft_mask
  mask = jnp.concatenate([inputs.mask, is_real], -1)
  return Inputs(jnp.take_along_axis(both, rows[..., None], -2), jnp.take_along_axis(mask, rows, -1))


def padded(
  rows: Sequence[Sequence[int]], *, side: str, length: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
  """Returns tokens [rows, length], with 0 as padding, and the mask of what is real.

  Args:
    rows: tokens of each text.
    side: where padding goes: 'left' for prompts, 'right' for responses.
    length: of the longest row by default.

  Raises:
    ValueError: for a row that is longer, or another side.
  """
  if side not in ('left', 'right'):
    raise ValueError(f"side must be 'left' or 'right', got {side!r}")
  length = max(map(len, rows), default=0) if length is None else length
  tokens, mask = np.zeros((len(rows), length), np.int32), np.zeros((len(rows), length), bool)
  for number, row in enumerate(rows):
    if len(row) > length:
      raise ValueError(f'row {number} has {len(row)} tokens, more than length={length}')
    place = slice(length - len(row), None) if side == 'left' else slice(len(row))
    tokens[number, place], mask[number, place] = row, True
  return tokens, mask
