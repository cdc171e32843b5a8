"""Gradient descent on one user's comparisons, by `scan`, differentiable to any order."""

import jax
import jax.numpy as jnp

from metapers.core.types import Array, Callable, Params, Scalar


def descend(
  loss: Callable[[Params], Scalar],
  start: Params,
  learning_rates: Params | float | Array,
  *,
  num_steps: int,
  first_order: bool = False,
) -> Params:
  """Takes θ ← θ - rate · ∇loss(θ), `num_steps` times.

  Args:
    loss: of the parameters; closes over the user's support.
    start: θ_0.
    learning_rates: one rate, or a tree of them like `start` (broadcast against each leaf).
    num_steps: how often.
    first_order: treat gradients as constants, so that dθ_n/dθ_0 is the identity (FOMAML).

  Returns:
    θ_n, of the same structure as `start`; θ_0 where θ_n is not finite, as after many comparisons
    that contradict each other: who cannot be adapted to stays as they were.
  """
  if isinstance(learning_rates, float | jax.Array):
    learning_rates = jax.tree.map(lambda _: learning_rates, start)

  def step(theta, _):
    gradient = jax.grad(loss)(theta)
    if first_order:
      gradient = jax.lax.stop_gradient(gradient)
    move = jax.tree.map(jnp.multiply, learning_rates, gradient)
    return jax.tree.map(jnp.subtract, theta, move), None

  theta, _ = jax.lax.scan(step, start, length=num_steps)
  is_finite = jnp.all(jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(theta)]))
  return jax.tree.map(lambda end, first: jnp.where(is_finite, end, first), theta, start)
