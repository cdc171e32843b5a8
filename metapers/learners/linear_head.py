"""The Gaussian posterior of a linear head: by Laplace, its draws, its predictive."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from metapers.core import choice_model
from metapers.core.task import Candidates, Choices
from metapers.core.types import Array, Float, PRNGKey
from metapers.learners import newton

UNKNOWN = 1e-6  # what float32 leaves open of the eigenvalues of a covariance below I


class Posterior(NamedTuple):
  """Gaussian posterior of a head: mean [H], covariance [H, H]; noise for its draws [S, H]."""

  mean: Float[Array, 'H']
  covariance: Float[Array, 'H H']
  noise: Float[Array, 'S H']


def laplace(
  offset: Float[Array, 'N K'],
  factors: Float[Array, 'N K H'],
  support: Choices,
  key: PRNGKey,
  *,
  num_steps: int,
  num_samples: int,
) -> Posterior:
  """Returns the Gaussian at the mode of the head's posterior.

  The steps that find the mode are not differentiated: at the mode one Newton step has the exact
  derivative, for its dependence on where it starts vanishes there.

  Args:
    offset: m(x) of each candidate, [N, K].
    factors: φ(x), [N, K, H].
    support: the user's comparisons; nothing non-finite may stand in masked entries.
    key: for the noise of draws.
    num_steps: Newton steps with line search.
    num_samples: S.
  """
  v = newton.mode(offset, factors, support, num_steps=num_steps)
  mean = newton.last_step(v, offset, factors, support)
  contrasts = newton.weighted_contrasts(mean, offset, factors, support)
  covariance = newton.inverse(contrasts)
  return Posterior(mean, covariance, jax.random.normal(key, (num_samples, v.size), jnp.float32))


def draws(
  offset: Float[Array, 'N K'], factors: Float[Array, 'N K H'], posterior: Posterior
) -> Float[Array, 'S N K']:
  """Returns utilities [S, N, K] under S draws of the head from its posterior."""
  unit = jnp.eye(len(posterior.covariance), dtype=posterior.covariance.dtype)
  root = jnp.linalg.cholesky(posterior.covariance + UNKNOWN * unit)
  samples = posterior.mean[None] + posterior.noise @ root.T
  return offset[None] + jnp.einsum('nkh,sh->snk', factors, samples)


def predictive(
  offset: Float[Array, 'N K'],
  factors: Float[Array, 'N K H'],
  posterior: Posterior,
  candidates: Candidates,
) -> Float[Array, 'N K']:
  """Returns log-probabilities [N, K]: probit of two candidates, mean softmax of draws of more.

  So of a comparison of two it is the same whether or not masked candidates stand beside them.
  """
  mask = candidates.mask
  first_two = jnp.argsort(~mask, -1, stable=True)[:, :2]
  pair = jnp.take_along_axis(factors, first_two[..., None], 1)  # [N, 2, H]
  contrast = pair[:, 0] - pair[:, 1]
  variance = jnp.maximum(jnp.einsum('nh,hg,ng->n', contrast, posterior.covariance, contrast), 0)
  shrink = jax.lax.rsqrt(1 + jnp.pi / 8 * variance)
  probit = choice_model.log_probs((offset + factors @ posterior.mean) * shrink[:, None], mask)
  if mask.shape[-1] == 2:
    return probit
  sampled = choice_model.mean_probability(draws(offset, factors, posterior), mask)
  return jnp.where(mask.sum(-1, keepdims=True) == 2, probit, sampled)
