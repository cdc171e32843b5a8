"""Laplace's method in the coordinates of one user's comparisons, where features outnumber them.

What w ~ N(m, S) does to a user's choices goes through the contrasts X w alone: the mode of the
posterior is m + S Xᵀ a, with a coefficient for each contrast, and S enters by the Gram matrix
G = X S Xᵀ only. `newton` is the same method in the coordinates of the features.

Reference: Rasmussen and Williams 2006, sections 3.4 and 3.5.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from metapers.core import choice_model, masked
from metapers.core.task import Choices
from metapers.core.types import Array, Bool, Float
from metapers.learners import newton


class Evidence(NamedTuple):
  """What one user's comparisons say of their weights: w | D ≈ N(m + S Xᵀ a, S - S Xᵀ M X S).

  contrasts: X [R, D], features of each other candidate minus the chosen one's; R = N(K - 1).
  mode: a [R]. reduction: M [R, R].
  """

  contrasts: Float[Array, 'R D']
  mode: Float[Array, 'R']
  reduction: Float[Array, 'R R']


def laplace(
  mean: Float[Array, 'D'], covariance: Float[Array, 'D D'], given: Choices, *, num_steps: int
) -> Evidence:
  """Returns the Gaussian at the mode of the posterior of w ~ N(mean, covariance).

  With gaps f = X (m + S Xᵀ a) [N, K-1] of utility, p their probabilities beside the chosen one,
  whose gap is 0, and W = blocks of weight_n (diag(p_n) - p_n p_nᵀ), a full step is

      Δa = -(I + W G)⁻¹ (weight p + a),    and at the mode    M = (I + W G)⁻¹ W

  Args:
    mean: m.
    covariance: S.
    given: comparisons of one user; nothing non-finite may stand in masked entries.
    num_steps: Newton steps with line search.
  """
  differences, is_real = contrasts(given)
  rows = differences.reshape(-1, mean.size)
  gram = (rows @ covariance) @ rows.T
  weight = masked.fill(given.weight, given.mask)
  mask = jnp.pad(is_real, ((0, 0), (1, 0)), constant_values=True)

  def log_probs(a):
    """Of all candidates, the chosen one first: [N, K]."""
    gaps = (rows @ mean + gram @ a).reshape(is_real.shape)
    return choice_model.log_probs(jnp.pad(gaps, ((0, 0), (1, 0))), mask)

  def energy(a):
    return -weight @ log_probs(a)[:, 0] + 0.5 * a @ gram @ a

  def curved(a):
    """Returns weight p [R], and a function that multiplies by W from the left."""
    p = jnp.exp(log_probs(a))[:, 1:]
    blocks = weight[:, None, None] * (jax.vmap(jnp.diag)(p) - p[:, :, None] * p[:, None])

    def times(b):
      return jnp.einsum('nij,njr->nir', blocks, b.reshape(*p.shape, -1)).reshape(b.shape)

    return (weight[:, None] * p).reshape(-1), times

  unit = jnp.eye(rows.shape[0], dtype=rows.dtype)

  def step(a, _):
    slope, times = curved(a)
    towards = -jnp.linalg.solve(unit + times(gram), slope + a)
    proposals = a[None] + jnp.asarray(newton.STEP_SIZES, a.dtype)[:, None] * towards[None]
    return proposals[jnp.argmin(jax.vmap(energy)(proposals))], None

  a, _ = jax.lax.scan(step, jnp.zeros(rows.shape[0], rows.dtype), length=num_steps)
  _, times = curved(a)
  return Evidence(rows, a, jnp.linalg.solve(unit + times(gram), times(unit)))


def contrasts(given: Choices) -> tuple[Float[Array, 'N J D'], Bool[Array, 'N J']]:
  """Returns features of the J = K - 1 others minus the chosen one's, 0 where masked, and masks."""
  num_candidates = given.candidates.mask.shape[-1]
  order = (
    given.choice[:, None] + jnp.arange(num_candidates, dtype=jnp.int32)[None]
  ) % num_candidates
  features = jnp.take_along_axis(given.candidates.features, order[..., None], axis=1)
  mask = jnp.take_along_axis(given.candidates.mask, order, axis=1) & given.mask[:, None]
  differences = features[:, 1:] - features[:, :1]
  return masked.fill_features(differences, mask[:, 1:]), mask[:, 1:]
