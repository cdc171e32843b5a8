"""A linear map plus a perceptron: utilities are often, if not wholly, linear in reward scores."""

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp
from flax import nnx

from metapers.core.types import Array, Callable, Float, Params
from metapers.networks import mlp, product
from metapers.networks.mlp import MLP, checked_sizes
from metapers.networks.network import Network, from_module, method


class Stages(NamedTuple):
  """A network by its layers, maps that are linear in their weights and biases: y = run(layers, x).

  layers: each `(p_layer, inputs [..., F_in]) -> outputs [..., F_out]`; the first has all that sees
  x. widths: (F_in, F_out) of each. run: `(layers, x [..., D]) -> y [..., H]`, of layers that are
  given inputs alone. divide: `(params) -> each p_layer`. join: the other way round.
  """

  layers: tuple[Callable[..., Array], ...]
  widths: tuple[tuple[int, int], ...]
  run: Callable[..., Array]
  divide: Callable[[Params], tuple[Params, ...]]
  join: Callable[[Sequence[Params]], Params]


class LinearMLP(nnx.Module):
  """y = W x + MLP(x), or W x where there are no hidden layers.

  W has no bias: choices see only differences of utility.
  """

  def __init__(self, sizes: Sequence[int], *, rngs: nnx.Rngs):
    self.linear = nnx.Linear(
      sizes[0], sizes[-1], use_bias=False, dot_general=product.of_features, rngs=rngs
    )
    self.mlp = MLP(sizes, rngs=rngs) if len(sizes) > 2 else None

  def __call__(self, x: Float[Array, '*batch D']) -> Float[Array, '*batch H']:
    """Returns y: `[..., sizes[0]] -> [..., sizes[-1]]`."""
    return self.linear(x) if self.mlp is None else self.linear(x) + self.mlp(x)

  def first(self, x: Float[Array, '*batch D']) -> Float[Array, '*batch F']:
    """Returns W x and the outputs of the perceptron's first layer, side by side."""
    linear = self.linear(x)
    return linear if self.mlp is None else jnp.concatenate([linear, self.mlp.layers[0](x)], -1)


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
  """Returns the network of `linear_mlp`, of the same parameters, by its layers."""
  sizes = checked_sizes(num_inputs, hidden, num_outputs)
  later = tuple(itertools.pairwise(sizes[1:]))  # widths of the layers after the first

  def build(rngs):
    return LinearMLP(sizes, rngs=rngs)

  def layer(number):
    return method(build, lambda module, inputs: module.mlp.layers[number](inputs))

  def run(layers, x):
    linear, outputs = jnp.split(layers[0](x), [num_outputs], -1)
    return linear + mlp.rest(layers[1:], outputs) if hidden else linear

  layers = (method(build, LinearMLP.first), *(layer(number + 1) for number in range(len(later))))
  first = (num_inputs, num_outputs + sizes[1] if hidden else num_outputs)
  return Stages(layers, (first, *later), run, _divide, _join)


def _divide(params: Params) -> tuple[Params, ...]:
  if 'mlp' not in params:
    return (params,)
  own = params['mlp']['layers']
  layers = [{'mlp': {'layers': {name: own[name]}}} for name in sorted(own, key=int)]
  return ({**params, **layers[0]}, *layers[1:])


def _join(layers: Sequence[Params]) -> Params:
  first, *later = layers
  if not later:
    return first
  every = {name: own for each in layers for name, own in each['mlp']['layers'].items()}
  return {**first, 'mlp': {'layers': every}}
