"""Gradient descent on one user's comparisons without a copy of the first layer for every user.

The first layer maps candidates X [M, D] to outputs P = X W [M, F]. A step of descent moves W by
-rate · Xᵀ δ with δ = ∂loss / ∂P, and thereby P by -rate · X Xᵀ δ: all it needs are the products of
the user's own candidates, and what it keeps is S = Σ rate · δ [M, F] in place of weights [D, F].
Those are W - Xᵀ S, and the outputs of other candidates Y are Y W - Y Xᵀ S.

The numbers are those of `inner_loop.descend` up to rounding. A bias is the weight of a further
feature, 1. Where a layer has none this shifts all utilities alike, which no choice depends on.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from metapers.core.types import Array, Callable, Float, Params, Scalar
from metapers.learners import inner_loop
from metapers.networks.linear_mlp import Stages


class Adapted(NamedTuple):
  """Parameters after descent.

  first: of the first layer, as they were. rest: of the other layers. rows: X. moves: S.
  """

  first: Params
  rest: Params
  rows: Float[Array, 'M D']
  moves: Float[Array, 'M F']


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

  The parameters stay as they were if the result is not finite.

  Args:
    loss: of the network's outputs for the rows.
    stages: the network.
    params: θ_0.
    rows: X, the candidates of the user's comparisons.
    rate: step size, of all parameters.
    num_steps: how many.
    first_order: treat gradients as constants, so that dθ_n/dθ_0 is the identity (FOMAML).
  """
  first, others = stages.divide(params)
  start, moved_by = stages.first(first, rows), products(rows, rows)

  def loss_of(outputs, rest):
    return loss(stages.rest(rest, outputs))

  def step(adapted, _):
    rest, moves = adapted
    gradient = jax.grad(loss_of, (0, 1))(start - moved_by(moves), rest)
    if first_order:
      gradient = jax.lax.stop_gradient(gradient)
    slope, slopes = gradient
    rest = jax.tree.map(lambda x, slope: x - rate * slope, rest, slopes)
    return (rest, moves + rate * slope), None

  before = (others, jnp.zeros_like(start))
  after, _ = jax.lax.scan(step, before, length=num_steps)
  rest, moves = inner_loop.finite_or(after, before)
  return Adapted(first, rest, rows, moves)


def outputs(stages: Stages, adapted: Adapted, others: Float[Array, 'Y D']) -> Float[Array, 'Y H']:
  """Returns the adapted network's outputs for other candidates."""
  moved = products(others, adapted.rows)(adapted.moves)
  return stages.rest(adapted.rest, stages.first(adapted.first, others) - moved)


def parameters(stages: Stages, adapted: Adapted) -> Params:
  """Returns the adapted parameters, first layer included: what one would store for a user."""
  _, transposed = jax.vjp(lambda first: stages.first(first, adapted.rows), adapted.first)
  (moves,) = transposed(adapted.moves)
  return stages.join(jax.tree.map(jnp.subtract, adapted.first, moves), adapted.rest)


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
