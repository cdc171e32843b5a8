"""A Gaussian prior of linear preferences, estimated from the known users by EM: empirical Bayes."""

import functools

import jax
import jax.numpy as jnp

from metapers.core import batches, meta_learner, task
from metapers.core.meta_learner import MetaLearner
from metapers.core.task import Candidates, Choices
from metapers.core.types import Array, Float, Params
from metapers.learners import bayes_head, dual_newton, newton, options

CHUNK_SIZE = 256  # users whose posteriors are computed at once, at most
HELD = 2**23  # entries of their contrasts or covariances, at most


def gaussian_prior(
  num_features: int,
  *,
  num_iterations: int = 30,
  inner_steps: int = 8,
  num_samples: int = 16,
  num_pseudo_users: float = 1.0,
) -> MetaLearner:
  """Returns u(x) = w_u · x with w_u ~ N(m, Σ), m and Σ of the known users by EM and Laplace.

  E: w_u | D_u ≈ N(μ_u, C_u), the Gaussian at the mode of its posterior. M, over U users:

      m = (1/U) Σ_u μ_u,    Σ = (ν I + Σ_u [C_u + (μ_u - m)(μ_u - m)ᵀ]) / (ν + U)

  A new user's posterior is the same Laplace approximation under the estimated prior; the predictive
  is that of `bayes_head`. Nothing is trained by gradient: `prepare` is all, and 0 steps are enough.
  Where people are sure, Laplace finds Σ too small: 2.25 came out as 1.7 after 60 pairs of each.

  Args:
    num_features: D.
    num_iterations: of EM.
    inner_steps: Newton steps with line search, in each.
    num_samples: S, for K > 2 and for questions.
    num_pseudo_users: ν > 0, users as whom a unit covariance counts; keeps Σ invertible where there
      are fewer users than features.

  Raises:
    ValueError: for an option out of range.

  Reference:
    Dempster, Laird and Rubin 1977 (JRSS B 39(1)); Laird and Ware 1982 (Biometrics 38(4)), random
    effects; Tierney and Kadane 1986 (JASA 81(393)) for Laplace.
  """
  options.at_least_one(
    num_iterations=num_iterations, inner_steps=inner_steps, num_samples=num_samples
  )
  options.positive(num_pseudo_users=num_pseudo_users)
  laplace = functools.partial(bayes_head.laplace, num_steps=inner_steps, num_samples=num_samples)

  def init(key):
    del key
    return {
      'mean': jnp.zeros(num_features, jnp.float32),
      'root': jnp.eye(num_features, dtype=jnp.float32),
    }

  def adapt(params, support, context, key):
    del context
    return laplace(*parts(params, support.candidates), support, key)

  def score(params, user_state, candidates):
    offset, factors = parts(params, candidates)
    return offset + factors @ user_state.mean

  def predict(params, user_state, candidates):
    return bayes_head.predictive(*parts(params, candidates), user_state, candidates)

  def sample(params, user_state, candidates):
    return bayes_head.draws(*parts(params, candidates), user_state)

  def prepare(params, histories, key):
    del params
    num_users = histories.user.shape[0]
    chunk_size = chunk_size_of(histories.support, num_features)

    def improve(prior, _):
      def moments(users, share):
        known = task.take(histories.support, users)
        if num_contrasts(known) < num_features:
          return moments_by_contrasts(prior, known, share, num_steps=inner_steps)
        return moments_by_features(prior, known, share, num_steps=inner_steps)

      sums = batches.sum_chunks(moments, num_users, chunk_size)
      means = jax.tree.map(lambda x: x / num_users, sums)
      return maximised(prior, *means, num_users=num_users, strength=num_pseudo_users), None

    return jax.lax.scan(improve, init(key), length=num_iterations)[0]

  return meta_learner.from_adapt_score(
    init, adapt, score, predict=predict, sample=sample, prepare=prepare
  )


def moments_by_features(
  prior: Params, known: Choices, share: Float[Array, 'U'], *, num_steps: int
) -> tuple[Float[Array, 'D'], Float[Array, 'D D']]:
  """Returns Σ_u share_u E[v] [D] and Σ_u share_u E[v vᵀ] [D, D] of posteriors, w = m + root v.

  Args:
    prior: its mean and root.
    known: comparisons of U users, [U, N, K, D].
    share: how much each user counts.
    num_steps: Newton steps with line search.
  """

  def posterior(given):
    offset, factors = parts(prior, given.candidates)
    v = newton.mode(offset, factors, given, num_steps=num_steps)
    return v, newton.inverse(newton.weighted_contrasts(v, offset, factors, given))

  means, covariances = jax.vmap(posterior)(known)
  outer = (share[:, None] * means).T @ means
  return share @ means, jnp.tensordot(share, covariances, 1) + outer


def moments_by_contrasts(
  prior: Params, known: Choices, share: Float[Array, 'U'], *, num_steps: int
) -> tuple[Float[Array, 'D'], Float[Array, 'D D']]:
  """Returns the same by fewer contrasts than features, in large products of all users at once."""
  root = prior['root']
  laplace = functools.partial(dual_newton.laplace, prior['mean'], root @ root.T)
  found = jax.vmap(functools.partial(laplace, num_steps=num_steps))(known)
  evidence = found.mode[..., None] * found.mode[:, None] - found.reduction  # Xᵀ this X
  shared = share[:, None, None] * found.contrasts
  inner = jnp.tensordot(shared, evidence @ found.contrasts, [(0, 1), (0, 1)])
  unit = jnp.sum(share) * jnp.eye(root.shape[0], dtype=root.dtype)
  return root.T @ jnp.tensordot(found.mode, shared, 2), unit + root.T @ inner @ root


def parts(
  prior: Params, candidates: Candidates
) -> tuple[Float[Array, 'N K'], Float[Array, 'N K D']]:
  """Returns offsets x · m [N, K] and factors x root [N, K, D] of u(x) = x · (m + root v)."""
  return candidates.features @ prior['mean'], candidates.features @ prior['root']


def num_contrasts(known: Choices) -> int:
  """Returns R = N (K - 1), of one user's comparisons; static."""
  num_comparisons, num_candidates = known.candidates.mask.shape[-2:]
  return num_comparisons * (num_candidates - 1)


def chunk_size_of(known: Choices, num_features: int) -> int:
  """Returns of how many users the posteriors are computed at once; static."""
  held = num_features * min(num_contrasts(known), num_features)
  return max(1, min(CHUNK_SIZE, HELD // held))


def maximised(
  params: Params,
  mean: Float[Array, 'D'],
  second: Float[Array, 'D D'],
  *,
  num_users: int,
  strength: float,
) -> Params:
  """Returns mean and root of the prior after one M step.

  Args:
    params: the prior before it.
    mean: over users, of E[v] of their posteriors, where w = m + root v.
    second: likewise, of E[v vᵀ].
    num_users: U.
    strength: ν.
  """
  root = params['root']
  scatter = num_users * root @ (second - jnp.outer(mean, mean)) @ root.T
  unit = strength * jnp.eye(mean.size, dtype=mean.dtype)
  covariance = (unit + scatter) / (strength + num_users)
  return {'mean': params['mean'] + root @ mean, 'root': jnp.linalg.cholesky(covariance)}
