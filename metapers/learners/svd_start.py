"""A start by truncated SVD: what known users like, as few directions that they share.

The matrix of users and pairs, 1 where the first was chosen, 0 where the second and ½ where the user
did not see the pair, has few factors if users differ in few ways. Where each user saw pairs of
their own it is nearly all imputed, and its own factors say nothing; but pairs have features. Its
best approximation of a rank by utilities linear in them (reduced-rank regression) is an SVD of
users and features: of each user's mean contrast c_u, whitened by the covariance Σ of all contrasts.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from metapers.core import masked, task
from metapers.core.task import Task
from metapers.core.types import Array, Float
from metapers.learners import neural_process

RIDGE = 1e-3  # of Σ, in units of its mean variance: it may have fewer contrasts than features


class Factors(NamedTuple):
  """Weights w_u [U, r] and directions V [D, r] of the utilities x · V w_u; r is the rank, or less.

  The weights have mean square 1 in each column; columns go from the largest share to the least.
  """

  weights: Float[Array, 'U r']
  directions: Float[Array, 'D r']


def factors(histories: Task, rank: int) -> Factors:
  """Returns the truncated SVD of known users' linear utilities θ_u ≈ V w_u.

  θ_u = 2 Σ⁻¹ c_u is one Newton step of the logistic model of pairs from 0, under the curvature of
  all users (one user's own has fewer contrasts than features), and the SVD is of θ_u Σ^½: noise is
  alike in all its directions, and errors count as errors of utilities. c_u is the mean over a
  user's comparisons of the chosen candidate's features minus the mean of the others'. For larger K
  it is a start all the same; a tie (`core.outcomes`) adds nothing of how near the two texts are.

  Args:
    histories: of the known users, [U, ...]; one without comparisons has weights 0.
    rank: of the approximation.

  Reference:
    Izenman 1975 (J. Multivariate Analysis 5(2)), reduced-rank regression; Shenfeld et al. 2025,
    arXiv:2503.06358, for the start by SVD of a reward factorisation.
  """
  known = histories.support
  contrasts = jax.vmap(neural_process.tokens)(known.candidates.features, known)  # [U, N, D]
  count = task.total_weight(known)
  weighted = masked.fill(known.weight, known.mask)[..., None] * contrasts
  means = weighted.sum(1) / masked.or_one(count)[:, None]
  total = jnp.sum(count)
  covariance = jnp.tensordot(weighted, contrasts, [(0, 1), (0, 1)]) / masked.or_one(total)
  whitening = inverse_root(covariance)
  left, sizes, right = jnp.linalg.svd(means @ whitening, full_matrices=False)
  root = jnp.sqrt(jnp.float32(len(count)))
  directions = 2 * whitening @ right[:rank].T * sizes[None, :rank]
  return Factors(root * left[:, :rank], directions / root)


def inverse_root(covariance: Float[Array, 'D D']) -> Float[Array, 'D D']:
  """Returns (Σ + RIDGE tr(Σ) / D · I)^-½."""
  values, vectors = jnp.linalg.eigh(covariance)
  values = jnp.maximum(values, 0)
  raised = values + jnp.maximum(RIDGE * values.mean(), jnp.finfo(values.dtype).tiny)
  return (vectors * jax.lax.rsqrt(raised)[None]) @ vectors.T
