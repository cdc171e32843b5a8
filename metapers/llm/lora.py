"""Low-rank changes of named projections, beside weights that stay as they are.

    adapter = lora.lora(config, rank=8, scale=2.0, projections=('query', 'value'))
    changes = adapter.init(key)                                  # what is trained
    model.hidden(params, embeddings, mask, lora=adapter.scaled(changes))
    merged = adapter.merge(params, changes)                      # then save.save(...)

A projection W becomes W + scale · A B, with A random and B = 0 at first; the decoder adds
scale · (x A) B to x W and never makes the sum of the weights.

Reference:
  Hu et al. 2021, arXiv:2106.09685, whose α / r is `scale`.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from metapers.core.types import Any, Array, Params, PRNGKey
from metapers.llm.layers import PROJECTIONS, Config


class Lora(NamedTuple):
  """Low-rank changes of a decoder; `lora` makes it.

  shapes: projection -> (width of its inputs, of its outputs).
  """

  num_layers: int
  rank: int
  scale: float
  shapes: dict[str, tuple[int, int]]
  dtype: Any

  def init(self, key: PRNGKey) -> Params:
    """Returns projection -> {'a': [layers, inputs, rank], 'b': [layers, rank, outputs]}."""
    keys = jax.random.split(key, len(self.shapes))
    return {name: self._start(key, *self.shapes[name]) for key, name in zip(keys, self.shapes)}

  def scaled(self, changes: Params) -> Params:
    """Returns the changes as the decoder adds them: B times the scale."""
    return {
      name: {'a': change['a'], 'b': self.scale * change['b']} for name, change in changes.items()
    }

  def merge(self, params: Params, changes: Params) -> Params:
    """Returns the decoder's parameters with the changes in them, in their own dtype."""
    layers = dict(params['layers'])
    for name, change in self.scaled(changes).items():
      kernel = layers[name]['kernel']
      wide = kernel.astype(jnp.float32) + change['a'].astype(jnp.float32) @ change['b']
      layers[name] = {**layers[name], 'kernel': wide.astype(kernel.dtype)}
    return {**params, 'layers': layers}

  def _start(self, key: PRNGKey, num_inputs: int, num_outputs: int) -> dict[str, Array]:
    shape = (self.num_layers, num_inputs, self.rank)
    bound = num_inputs**-0.5  # torch's start of a linear map, as published code has it
    a = jax.random.uniform(key, shape, self.dtype, -bound, bound)
    return {'a': a, 'b': jnp.zeros((self.num_layers, self.rank, num_outputs), self.dtype)}


def lora(
  config: Config,
  *,
  rank: int = 8,
  scale: float = 1.0,
  projections: Sequence[str] = PROJECTIONS,
  dtype: Any = jnp.float32,
) -> Lora:
  """Returns low-rank changes for a decoder.

  Args:
    config: of the decoder.
    rank: of each change.
    scale: what the product of its two factors is multiplied by: α / r.
    projections: of each layer, that are changed.
    dtype: of the factors.

  Raises:
    ValueError: for a rank below 1, no projection, or one that a layer does not have.
  """
  unknown = [name for name in projections if name not in PROJECTIONS]
  if rank < 1:
    raise ValueError(f'rank must be at least 1, got {rank}')
  if unknown or not projections:
    raise ValueError(f'projections must be some of {PROJECTIONS}, got {tuple(projections)}')
  inner = config.num_heads * config.head_size
  outer = config.num_key_heads * config.head_size
  shapes = {
    'query': (config.width, inner),
    'key': (config.width, outer),
    'value': (config.width, outer),
    'out': (inner, config.width),
    'gate': (config.width, config.hidden),
    'up': (config.width, config.hidden),
    'down': (config.hidden, config.width),
  }
  return Lora(config.num_layers, rank, scale, {name: shapes[name] for name in projections}, dtype)
