"""Gradient descent on one user's comparisons, by `scan`: as a learned map, and as a fit."""

import jax
import jax.numpy as jnp

from metapers.core.types import Array, Callable, Params, PyTree, Scalar


def descend(
  loss: Callable[[Params], Scalar],
  start: Params,
  learning_rates: Params | float | Array,
  *,
  num_steps: int,
) -> Params:
  """Returns θ_n of θ ← θ - rate · ∇loss(θ), n = `num_steps`; differentiable to any order.

  Returns the initial parameters if the result is not finite, as after many comparisons that
  contradict each other; its derivatives are not finite then, and training by them stops.

  Args:
    loss: of the parameters; closes over the user's support.
    start: θ_0.
    learning_rates: one rate, or a tree of them like `start` (broadcast against each leaf).
    num_steps: n.

  Returns:
    θ_n, of the same structure as `start`.
  """
  if isinstance(learning_rates, float | jax.Array):
    learning_rates = jax.tree.map(lambda _: learning_rates, start)

  def step(theta, _):
    move = jax.tree.map(jnp.multiply, learning_rates, jax.grad(loss)(theta))
    return jax.tree.map(jnp.subtract, theta, move), None

  theta, _ = jax.lax.scan(step, start, length=num_steps)
  return finite_or(theta, start)


def finite_or(end: PyTree, start: PyTree) -> PyTree:
  """Returns the end of a descent, or its start where the end is not finite in all entries."""
  is_finite = jnp.all(jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(end)]))
  return jax.tree.map(lambda last, first: jnp.where(is_finite, last, first), end, start)


def fit(
  loss: Callable[[Params], Scalar],
  start: Params,
  learning_rate: float | Array,
  *,
  num_steps: int,
) -> Params:
  """Returns the end of θ ← θ - rate · ∇loss(θ), whose rate halves where a step raises the loss.

  A rate is right for some number of comparisons and some noise: with more of either the steps of
  plain descent grow without end.

  Args:
    loss: of the parameters; closes over the user's support.
    start: θ_0, of finite loss.
    learning_rate: before it is halved for the first time.
    num_steps: steps tried.

  Returns:
    The last θ that was accepted, of the same structure as `start`: loss(θ) <= loss(θ_0).
  """
  value_and_gradient = jax.value_and_grad(loss)

  def step(state, _):
    theta, rate, value, gradient = state
    tried = jax.tree.map(lambda x, slope: x - rate * slope, theta, gradient)
    found = (tried, rate, *value_and_gradient(tried))
    halved = (theta, rate / 2, value, gradient)
    is_better = found[2] <= value  # False for NaN
    return jax.tree.map(lambda new, old: jnp.where(is_better, new, old), found, halved), None

  state = (start, jnp.asarray(learning_rate, jnp.float32), *value_and_gradient(start))
  (theta, *_), _ = jax.lax.scan(step, state, length=num_steps)
  return theta
