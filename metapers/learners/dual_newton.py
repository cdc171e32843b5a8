"""Laplace's method in the coordinates of one user's comparisons, where features outnumber them.

What v ~ N(0, I) does to a user's choices goes through the contrasts X v alone: the mode of the
posterior is Xᵀ a, with a coefficient for each contrast, and all else is in the Gram matrix
G = X Xᵀ. `newton` is the same method in the coordinates of v.

Reference: Rasmussen and Williams 2006, sections 3.4 and 3.5.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from metapers.core import choice_model, masked
from metapers.core.task import Choices
from metapers.core.types import Array, Float, Int
from metapers.learners import newton


class DualPosterior(NamedTuple):
  """What one user's comparisons say of v: v | D ≈ N(Xᵀ a, I - Xᵀ M X).

  contrasts: X [R, H], factors of each other candidate minus the chosen one's; R = N(K - 1).
  mode: a [R]. reduction: M [R, R].
  """

  contrasts: Float[Array, 'R H']
  mode: Float[Array, 'R']
  reduction: Float[Array, 'R R']


def laplace(
  offset: Float[Array, 'N K'], factors: Float[Array, 'N K H'], given: Choices, *, num_steps: int
) -> DualPosterior:
  """Returns the Gaussian at the mode of the posterior of v in u(x) = offset(x) + v·φ(x).

  With gaps f of utility [N, K-1], p their probabilities beside the chosen one, whose gap is 0, and
  W = blocks of weight_n (diag(p_n) - p_n p_nᵀ), a full step is

      Δa = -(I + W G)⁻¹ (weight p + a),    and at the mode    M = (I + W G)⁻¹ W

  Args:
    offset: utility of each candidate without v, [N, K].
    factors: φ(x), [N, K, H].
    given: comparisons of one user; nothing non-finite may stand in masked entries.
    num_steps: Newton steps with line search.
  """
  order = chosen_first(given)
  is_real = others_of(given.candidates.mask, order) & given.mask[:, None]
  start = minus_chosen(offset, order)
  rows = masked.fill_features(minus_chosen(factors, order), is_real)
  rows = rows.reshape(-1, factors.shape[-1])
  gram = rows @ rows.T
  weight = masked.fill(given.weight, given.mask)
  mask = jnp.pad(is_real, ((0, 0), (1, 0)), constant_values=True)

  def gaps_of(a):
    return start + (gram @ a).reshape(start.shape)

  def log_probs(a):
    """Of all candidates, the chosen one first: [N, K]."""
    return choice_model.log_probs(jnp.pad(gaps_of(a), ((0, 0), (1, 0))), mask)

  def energy(a):
    return -weight @ log_probs(a)[:, 0] + 0.5 * a @ gram @ a

  def curved(a):
    """Returns weight p [R], and a function that multiplies by W from the left."""
    p = jnp.exp(log_probs(a))[:, 1:]
    blocks = weight[:, None, None] * (jax.vmap(jnp.diag)(p) - p[:, :, None] * p[:, None])

    def times(b):
      return jnp.einsum('nij,njr->nir', blocks, b.reshape(*p.shape, -1)).reshape(b.shape)

    return (weight[:, None] * p).reshape(-1), times

  def secant(a):
    """Returns W as in `newton.secant_contrasts`: of the best other candidate alone, [R]."""
    gaps = masked.fill(gaps_of(a), is_real, -jnp.inf)
    is_best = is_real & jax.nn.one_hot(jnp.argmax(gaps, -1), gaps.shape[1], dtype=bool)
    curvature = newton.secant_curvature(masked.fill(gaps, is_best))
    return masked.fill(weight[:, None] * curvature, is_best).reshape(-1)

  unit = jnp.eye(rows.shape[0], dtype=rows.dtype)

  def step(a, _):
    slope, times = curved(a)
    models = times(gram), secant(a)[:, None] * gram
    towards = (-jnp.linalg.solve(unit + each, slope + a) for each in models)
    return newton.line_search(energy, a, *towards), None

  a, _ = jax.lax.scan(step, jnp.zeros(rows.shape[0], rows.dtype), length=num_steps)
  _, times = curved(a)
  return DualPosterior(rows, a, jnp.linalg.solve(unit + times(gram), times(unit)))


def chosen_first(given: Choices) -> Int[Array, 'N K']:
  """Returns an order of each comparison's candidates in which the chosen one is the first."""
  num_candidates = given.candidates.mask.shape[-1]
  steps = jnp.arange(num_candidates, dtype=jnp.int32)
  return (given.choice[:, None] + steps[None]) % num_candidates


def others_of(x: Array, order: Int[Array, 'N K']) -> Array:
  """Returns what [N, K, ...] holds of all but the chosen candidate, [N, K-1, ...]."""
  others = order[:, 1:].reshape(order.shape[0], -1, *[1] * (x.ndim - 2))
  return jnp.take_along_axis(x, others, axis=1)


def minus_chosen(x: Array, order: Int[Array, 'N K']) -> Array:
  """Returns the others' values minus the chosen one's, [N, K-1, ...]."""
  first = order[:, :1].reshape(-1, 1, *[1] * (x.ndim - 2))
  return others_of(x, order) - jnp.take_along_axis(x, first, axis=1)
