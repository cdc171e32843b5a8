"""Gradient descent on one user's comparisons without a copy of wide layers for every user.

A layer maps inputs X [M, D] to outputs P = X W [M, F]. A step of descent moves W by -rate · Xᵀ δ
with δ = ∂loss / ∂P: all it needs of the user are these rows. What is kept of T steps is X and
S = rate · δ of each, [T·M, D] and [T·M, F], in place of weights [D, F]. Those are W - Xᵀ S, and the
outputs of other inputs Y are Y W - Y Xᵀ S, where W is the same for all users: one large product.

The first layer, whose inputs do not change from step to step, is always kept so, in M rows, S being
summed; others where T·M rows are few for their widths.

The numbers are those of `inner_loop.descend` up to rounding. A bias is the weight of a further
feature, 1. Where the first layer has none this shifts all utilities alike, which no choice depends
on.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from metapers.core.types import Array, Callable, Float, Params, Scalar
from metapers.learners import inner_loop
from metapers.networks.linear_mlp import Stages

WIDTH_PER_ROW = 2  # a hidden layer at least so many times as wide as it would have rows is kept so


class Moved(NamedTuple):
  """Where descent has come.

  first: S of the first layer. weights: later layer -> its parameters, of those that are not kept as
  rows. rows, moves: layer -> X and S of the others, [L, F_in] and [L, F_out]; 0 of steps that are
  still to come.
  """

  first: Float[Array, 'M F']
  weights: dict[int, Params]
  rows: dict[int, Float[Array, 'L D']]
  moves: dict[int, Float[Array, 'L F']]


class Adapted(NamedTuple):
  """Parameters after descent: of each layer as they were, X of the first, and where they moved."""

  start: tuple[Params, ...]
  rows: Float[Array, 'M D']
  moved: Moved


def descend(
  loss: Callable[[Float[Array, 'M H']], Scalar],
  stages: Stages,
  params: Params,
  rows: Float[Array, 'M D'],
  rate: float | Array,
  *,
  num_steps: int,
  first_order: bool = False,
) -> Adapted:
  """Returns the parameters after `num_steps` steps; differentiable to any order.

  The parameters stay as they were if the result is not finite, as in `inner_loop.descend`.

  Args:
    loss: of the network's outputs for the rows.
    stages: the network.
    params: θ_0.
    rows: the candidates of the user's comparisons.
    rate: step size, of all parameters.
    num_steps: how many.
    first_order: treat gradients as constants, so that dθ_n/dθ_0 is the identity (FOMAML).
  """
  start, size = stages.divide(params), len(rows)
  # The first layer's inputs are the same in all steps, and so are these.
  first, moved_by = stages.layers[0](start[0], rows), products(rows, rows)

  def loss_of(weights, outputs, moved):
    """Returns the loss where `outputs` are added to those of the layers that are kept as rows."""
    inputs_of = {}

    def layer(number, inputs):
      if number == 0:
        return first - moved_by(moved.first) + outputs[0]
      if number in weights:
        return stages.layers[number](weights[number], inputs)
      inputs_of[number] = inputs
      return _outputs(stages, Adapted(start, rows, moved), number, inputs) + outputs[number]

    return loss(stages.run(_numbered(layer, stages), rows)), inputs_of

  def step(moved, number):
    nothing = {
      layer: jnp.zeros((size, stages.widths[layer][1]), first.dtype) for layer in (0, *moved.moves)
    }
    found = jax.grad(loss_of, (0, 1), has_aux=True)(moved.weights, nothing, moved)
    (slopes, slopes_of_rows), inputs_of = jax.lax.stop_gradient(found) if first_order else found

    def kept(log, layer, new):
      return jax.lax.dynamic_update_slice(log[layer], new[layer], (number * size, 0))

    steps = jax.tree.map(lambda slope: rate * slope, slopes_of_rows)
    weights = jax.tree.map(lambda x, slope: x - rate * slope, moved.weights, slopes)
    seen = {layer: kept(moved.rows, layer, inputs_of) for layer in moved.rows}
    moves = {layer: kept(moved.moves, layer, steps) for layer in moved.moves}
    return Moved(moved.first + steps[0], weights, seen, moves), None

  before = _unmoved(stages, start, first, num_steps)
  after, _ = jax.lax.scan(step, before, jnp.arange(num_steps))
  return Adapted(start, rows, inner_loop.finite_or(after, before))


def _unmoved(
  stages: Stages, start: tuple[Params, ...], first: Float[Array, 'M F'], num_steps: int
) -> Moved:
  """Returns where descent begins: nothing is seen yet of layers that will be kept as rows."""
  num_rows, layers = num_steps * len(first), range(1, len(start))
  kept = [layer for layer in layers if WIDTH_PER_ROW * num_rows <= min(stages.widths[layer])]

  def empty(side):
    return {layer: jnp.zeros((num_rows, stages.widths[layer][side]), first.dtype) for layer in kept}

  weights = {layer: start[layer] for layer in layers if layer not in kept}
  return Moved(jnp.zeros_like(first), weights, empty(0), empty(1))


def outputs(stages: Stages, adapted: Adapted, others: Float[Array, 'Y D']) -> Float[Array, 'Y H']:
  """Returns the adapted network's outputs for other candidates."""

  def layer(number, inputs):
    if number in adapted.moved.weights:
      return stages.layers[number](adapted.moved.weights[number], inputs)
    return _outputs(stages, adapted, number, inputs)

  return stages.run(_numbered(layer, stages), others)


def parameters(stages: Stages, adapted: Adapted) -> Params:
  """Returns the adapted parameters of all layers: what one would store for a user."""

  def weights(number):
    if number in adapted.moved.weights:
      return adapted.moved.weights[number]
    own, (rows, moves) = adapted.start[number], _kept(adapted, number)
    _, transposed = jax.vjp(lambda own: stages.layers[number](own, rows), own)
    return jax.tree.map(jnp.subtract, own, transposed(moves)[0])

  return stages.join([weights(number) for number in range(len(adapted.start))])


def _outputs(
  stages: Stages, adapted: Adapted, number: int, inputs: Float[Array, 'Y D']
) -> Float[Array, 'Y F']:
  """Returns the outputs of a layer that is kept as rows."""
  rows, moves = _kept(adapted, number)
  return stages.layers[number](adapted.start[number], inputs) - products(inputs, rows)(moves)


def _kept(adapted: Adapted, number: int) -> tuple[Float[Array, 'L D'], Float[Array, 'L F']]:
  """Returns X and S of a layer that is kept as rows."""
  moved = adapted.moved
  return (moved.rows[number], moved.moves[number]) if number else (adapted.rows, moved.first)


def _numbered(layer: Callable[[int, Array], Array], stages: Stages) -> list[Callable]:
  return [functools.partial(layer, number) for number in range(len(stages.layers))]


def products(
  left: Float[Array, 'Y D'], right: Float[Array, 'M D']
) -> Callable[[Float[Array, 'M F']], Float[Array, 'Y F']]:
  """Returns the map S ↦ (Y Xᵀ + 1) S, multiplied in the order that takes fewer operations.

  Args:
    left: Y.
    right: X.
  """
  num_left, num_right, num_features = len(left), len(right), right.shape[-1]
  if num_left * num_right <= (num_left + num_right) * num_features:
    kernel = left @ right.T + 1
    return lambda moves: kernel @ moves
  return lambda moves: left @ (right.T @ moves) + jnp.sum(moves, 0, keepdims=True)
