"""A Gaussian prior of linear preferences, estimated from the known users: empirical Bayes."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from metapers.core import batches, meta_learner, task
from metapers.core.meta_learner import MetaLearner
from metapers.core.task import Candidates, Choices, Task
from metapers.core.types import Array, Float, Params
from metapers.learners import dual_newton, linear_head, newton, options

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
  """Returns u(x) = w_u · x with w_u ~ N(m, Σ), m and Σ of the known users by Laplace's method.

  w_u | D_u ≈ N(μ_u, C_u), the Gaussian at the mode of each user's posterior. With what users'
  comparisons say, g_u = Σ⁻¹(μ_u - m) and H_u = Σ⁻¹ - Σ⁻¹ C_u Σ⁻¹, an iteration is

      m ← m + (Σ_u H_u + ν I)⁻¹ (Σ_u g_u - ν m),
      Σ ← the solution S of S (Σ_u H_u + ν Σ⁻¹) S = Σ (Σ_u g_u g_uᵀ) Σ + ν I

  that is, scoring for the mean and, for the covariance, the minorisation of Zhou et al. They rest
  where EM would, but for the ν m; EM hardly moves where most users say nothing of a feature, whose
  g and H are 0.
  A new user's posterior is the same approximation under the estimated prior; the predictive is that
  of `bayes_head`. Nothing is trained by gradient: `prepare` is all, and 0 steps are enough.

  Args:
    num_features: D.
    num_iterations: of both updates.
    inner_steps: Newton steps with line search, in each.
    num_samples: S, for K > 2 and for questions.
    num_pseudo_users: ν > 0, users without preferences as whom N(0, I) counts; keeps Σ invertible
      where there are fewer users than features.

  Raises:
    ValueError: for an option out of range, and by `prepare` for histories without users.

  Reference:
    Laird and Ware 1982 (Biometrics 38(4)), random effects; Breslow and Clayton 1993 (JASA 88(421)),
    their estimation by Laplace's method; Zhou, Hu, Zhou and Lange 2019 (JCGS 28(2)),
    arXiv:1509.07426, the update of the covariance.
  """
  options.at_least_one(
    num_iterations=num_iterations, inner_steps=inner_steps, num_samples=num_samples
  )
  options.positive(num_pseudo_users=num_pseudo_users)
  laplace = functools.partial(linear_head.laplace, num_steps=inner_steps, num_samples=num_samples)

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
    return linear_head.predictive(*parts(params, candidates), user_state, candidates)

  def sample(params, user_state, candidates):
    return linear_head.draws(*parts(params, candidates), user_state)

  @jax.jit
  def prepare(params, histories, key):
    del params
    num_users = some_users(histories)
    chunk_size = chunk_size_of(histories.support, num_features)

    def improve(prior, _):
      def of_chunk(users, share):
        known = task.take(histories.support, users)
        if num_contrasts(known) < num_features:
          return said_by_contrasts(prior, known, share, num_steps=inner_steps)
        return said_by_features(prior, known, share, num_steps=inner_steps)

      said = batches.sum_chunks(of_chunk, num_users, chunk_size)
      return updated(prior, said, strength=num_pseudo_users), None

    return jax.lax.scan(improve, init(key), length=num_iterations)[0]

  return meta_learner.from_adapt_score(
    init, adapt, score, predict=predict, sample=sample, prepare=prepare
  )


class Said(NamedTuple):
  """What users' comparisons say of them, summed, in v of w = m + root v.

  slope: Σ_u g_u [D]. scatter: Σ_u g_u g_uᵀ [D, D]. information: Σ_u H_u [D, D].
  """

  slope: Float[Array, 'D']
  scatter: Float[Array, 'D D']
  information: Float[Array, 'D D']


def said_by_features(
  prior: Params, known: Choices, share: Float[Array, 'U'], *, num_steps: int
) -> Said:
  """Returns what users say, by Newton's method in v.

  Args:
    prior: its mean and root.
    known: comparisons of U users, [U, N, K, D].
    share: how much each user counts, 1 or 0.
    num_steps: Newton steps with line search.
  """

  def of_one(given):
    offset, factors = parts(prior, given.candidates)
    v = newton.mode(offset, factors, given, num_steps=num_steps)
    return v, newton.inverse(newton.weighted_contrasts(v, offset, factors, given))

  modes, covariances = jax.vmap(of_one)(known)  # in v the prior is N(0, I): g is the mode
  shared = share[:, None] * modes
  unit = jnp.sum(share) * jnp.eye(modes.shape[1], dtype=modes.dtype)
  return Said(shared.sum(0), shared.T @ modes, unit - jnp.tensordot(share, covariances, 1))


def said_by_contrasts(
  prior: Params, known: Choices, share: Float[Array, 'U'], *, num_steps: int
) -> Said:
  """Returns the same by fewer contrasts than features, in large products of all users at once."""
  offsets, factors = parts(prior, known.candidates)
  laplace = functools.partial(dual_newton.laplace, num_steps=num_steps)
  found = jax.vmap(laplace)(offsets, factors, known)
  slopes = jnp.einsum('ur,urd->ud', found.mode, found.contrasts)
  shared = share[:, None] * slopes
  weighed = share[:, None, None] * (found.reduction @ found.contrasts)
  information = jnp.tensordot(found.contrasts, weighed, [(0, 1), (0, 1)])
  return Said(shared.sum(0), shared.T @ slopes, information)


def parts(
  prior: Params, candidates: Candidates
) -> tuple[Float[Array, '*T N K'], Float[Array, '*T N K D']]:
  """Returns offsets x · m and factors x root of u(x) = x · (m + root v)."""
  return candidates.features @ prior['mean'], candidates.features @ prior['root']


def some_users(histories: Task) -> int:
  """Returns how many users histories are of; static.

  Raises:
    ValueError: for none.
  """
  num_users = histories.user.shape[0]
  if num_users == 0:
    raise ValueError('histories hold no users, and the prior is theirs; give at least one')
  return num_users


def num_contrasts(known: Choices) -> int:
  """Returns R = N (K - 1), of one user's comparisons; static."""
  num_comparisons, num_candidates = known.candidates.mask.shape[-2:]
  return num_comparisons * (num_candidates - 1)


def chunk_size_of(known: Choices, num_features: int) -> int:
  """Returns of how many users the posteriors are computed at once; static."""
  held = num_features * min(num_contrasts(known), num_features)
  return max(1, min(CHUNK_SIZE, HELD // held))


def updated(prior: Params, said: Said, *, strength: float) -> Params:
  """Returns mean and root of the prior after one update of both, see `gaussian_prior`.

  In v, Σ is I: with B = L Lᵀ the information and ν I, A = R Rᵀ the scatter and ν root⁻¹ root⁻ᵀ, and
  the singular values σ and left vectors V of Lᵀ R, S = L⁻ᵀ V σ Vᵀ L⁻¹ solves S B S = A. Neither B
  nor A is formed: where features are collinear their range is that of users to ν, of which float32
  holds the square root alone.

  Args:
    prior: before.
    said: of the users.
    strength: ν.
  """
  mean, root = prior['mean'], prior['root']
  values, vectors = spectrum(said.information)
  lower = vectors * jnp.sqrt(values + strength)[None]  # L
  raised = vectors / jnp.sqrt(values + strength)[None]  # L⁻ᵀ
  turned = root @ raised
  curvature = jnp.diag(values / (values + strength)) + strength * turned.T @ turned
  slope = raised.T @ (said.slope - strength * root.T @ mean)
  spread, axes = spectrum(said.scatter)
  rows = jnp.concatenate(  # Rᵀ
    [jnp.sqrt(spread)[:, None] * axes.T, strength**0.5 * jnp.linalg.inv(root).T]
  )
  # Of the triangle alone the singular values take a third of the time.
  left, sizes, _ = jnp.linalg.svd(jnp.linalg.qr(rows @ lower, mode='r').T)
  return {
    'mean': mean + turned @ jnp.linalg.solve(curvature, slope),
    'root': turned @ (left * jnp.sqrt(sizes)[None]),
  }


def spectrum(x: Float[Array, 'D D']) -> tuple[Float[Array, 'D'], Float[Array, 'D D']]:
  """Returns eigenvalues and vectors of a sum of squares, none below 0 as rounding makes them."""
  values, vectors = jnp.linalg.eigh(x)
  return jnp.maximum(values, 0), vectors
