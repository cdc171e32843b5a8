"""A linear map plus a perceptron: utilities are often, if not wholly, linear in reward scores."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from metapers.core.types import Any, Array, Callable, Float, Params
from metapers.networks.mlp import MLP, checked_sizes
from metapers.networks.network import Network, from_module, method

FEW = 8  # columns


class Stages(NamedTuple):
  """A network as two: y = rest(p_rest, first(p_first, x)).

  first: `(p_first, x [..., D]) -> [..., F]`, the outputs of all layers that see x, linear in their
  weights and biases. rest: `(p_rest, [..., F]) -> y [..., H]`. divide: `(params) -> (p_first,
  p_rest)`. join: `(p_first, p_rest) -> params`.
  """

  first: Callable[..., Array]
  rest: Callable[..., Array]
  divide: Callable[[Params], tuple[Params, Params]]
  join: Callable[[Params, Params], Params]


def few_columns(x: Array, weights: Array, dimensions: Any, **options: Any) -> Array:
  """Returns X W of a W with few columns, so that its gradient is computed as (Gᵀ X)ᵀ.

  As Xᵀ G, which XLA makes of a plain product, and of a transposed one too unless it is kept from
  simplifying it, it takes longer on a CPU: docs/speed.md has by how much.
  """
  (x_axes, _), batch = dimensions
  transposed = jax.lax.optimization_barrier(weights.T)
  return jax.lax.dot_general(x, transposed, ((x_axes, (1,)), batch), **options)


class LinearMLP(nnx.Module):
  """y = W x + MLP(x), or W x where there are no hidden layers.

  W has no bias: choices see only differences of utility.
  """

  def __init__(self, sizes: Sequence[int], *, rngs: nnx.Rngs):
    product = few_columns if sizes[-1] <= FEW else jax.lax.dot_general
    self.linear = nnx.Linear(sizes[0], sizes[-1], use_bias=False, dot_general=product, rngs=rngs)
    self.mlp = MLP(sizes, rngs=rngs) if len(sizes) > 2 else None

  def __call__(self, x: Float[Array, '*batch D']) -> Float[Array, '*batch H']:
    """Returns y: `[..., sizes[0]] -> [..., sizes[-1]]`."""
    return self.linear(x) if self.mlp is None else self.linear(x) + self.mlp(x)

  def first(self, x: Float[Array, '*batch D']) -> Float[Array, '*batch F']:
    """Returns W x and the outputs of the perceptron's first layer, side by side."""
    linear = self.linear(x)
    return linear if self.mlp is None else jnp.concatenate([linear, self.mlp.layers[0](x)], -1)

  def rest(self, outputs: Float[Array, '*batch F']) -> Float[Array, '*batch H']:
    """Returns y from the outputs of `first`."""
    if self.mlp is None:
      return outputs
    linear, hidden = jnp.split(outputs, [self.linear.out_features], -1)
    return linear + self.mlp.rest(hidden)


def linear_mlp(num_inputs: int, hidden: Sequence[int], num_outputs: int) -> Network:
  """Returns the network y = W x + MLP(x): `[..., num_inputs] -> [..., num_outputs]`.

  Args:
    num_inputs: width of x.
    hidden: widths of the perceptron's hidden layers; empty for a purely linear map.
    num_outputs: width of y.

  Raises:
    ValueError: for a width below 1.
  """
  sizes = checked_sizes(num_inputs, hidden, num_outputs)
  return from_module(lambda rngs: LinearMLP(sizes, rngs=rngs))


def stages(num_inputs: int, hidden: Sequence[int], num_outputs: int) -> Stages:
  """Returns the network of `linear_mlp`, of the same parameters, as two."""
  sizes = checked_sizes(num_inputs, hidden, num_outputs)

  def build(rngs):
    return LinearMLP(sizes, rngs=rngs)

  return Stages(method(build, LinearMLP.first), method(build, LinearMLP.rest), _divide, _join)


def _divide(params: Params) -> tuple[Params, Params]:
  if 'mlp' not in params:
    return params, {}
  layers = params['mlp']['layers']
  first = {**params, 'mlp': {'layers': {'0': layers['0']}}}
  return first, {'mlp': {'layers': {name: layers[name] for name in layers if name != '0'}}}


def _join(first: Params, rest: Params) -> Params:
  if not rest:
    return first
  return {**first, 'mlp': {'layers': first['mlp']['layers'] | rest['mlp']['layers']}}
