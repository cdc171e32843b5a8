"""Multilayer perceptrons."""

import itertools
from collections.abc import Callable, Sequence

import jax
from flax import nnx

from metapers.core.types import Array, Float
from metapers.networks import product
from metapers.networks.network import Network, from_module


class MLP(nnx.Module):
  """Dense layers with GELU between them (smooth: second-order inner loops need curvature)."""

  def __init__(self, sizes: Sequence[int], *, rngs: nnx.Rngs):
    pairs = list(itertools.pairwise(sizes))
    first = nnx.Linear(*pairs[0], dot_general=product.of_features, rngs=rngs)
    self.layers = nnx.List([first, *(nnx.Linear(*pair, rngs=rngs) for pair in pairs[1:])])

  def __call__(self, x: Float[Array, '*batch D']) -> Float[Array, '*batch H']:
    """Returns the last layer's outputs: `[..., sizes[0]] -> [..., sizes[-1]]`."""
    return rest(self.layers[1:], self.layers[0](x))


def rest(
  layers: Sequence[Callable[[Array], Array]], outputs: Float[Array, '*batch F']
) -> Float[Array, '*batch H']:
  """Returns the last layer's outputs from those of the first one, by the layers after it."""
  for layer in layers:
    outputs = layer(jax.nn.gelu(outputs))
  return outputs


def mlp(num_inputs: int, hidden: Sequence[int], num_outputs: int) -> Network:
  """Returns a perceptron `[..., num_inputs] -> [..., num_outputs]` with GELU between the layers.

  Raises:
    ValueError: for a width below 1.
  """
  sizes = checked_sizes(num_inputs, hidden, num_outputs)
  return from_module(lambda rngs: MLP(sizes, rngs=rngs))


def checked_sizes(num_inputs: int, hidden: Sequence[int], num_outputs: int) -> tuple[int, ...]:
  """Returns the widths of all layers, from inputs to outputs.

  Raises:
    ValueError: for a width below 1.
  """
  sizes = (num_inputs, *hidden, num_outputs)
  if min(sizes) < 1:
    raise ValueError(f'layer widths must be at least 1, got {sizes}')
  return sizes
