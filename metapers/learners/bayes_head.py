"""A Bayesian linear head on learned features, inferred by Newton and Laplace."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from metapers.core import choice_model, meta_learner
from metapers.core.meta_learner import MetaLearner
from metapers.core.task import Candidates, Choices
from metapers.core.types import Array, Float, PRNGKey
from metapers.learners import newton, options
from metapers.learners.utility import embed, utilities, utility_network
from metapers.networks.linear_mlp import linear_mlp

UNKNOWN = 1e-6  # what float32 leaves open of the eigenvalues of a covariance below I


class Posterior(NamedTuple):
  """Gaussian posterior of a head: mean [H], covariance [H, H]; noise for its draws [S, H]."""

  mean: Float[Array, 'H']
  covariance: Float[Array, 'H H']
  noise: Float[Array, 'S H']


def bayes_head(
  num_features: int,
  *,
  hidden: Sequence[int] = (64,),
  width: int = 16,
  prior_scale: float = 1.0,
  inner_steps: int = 8,
  num_samples: int = 16,
) -> MetaLearner:
  """Returns u(x) = m(x) + v_u · φ(x) with v_u ~ N(0, I), its posterior by Newton and Laplace.

  Prior: a Gaussian over users' utilities with learned mean m(x) and covariance φ(x)·φ(x'); the last
  layer of φ is the prior's Cholesky factor. Predictive for K = 2: the probit approximation
  σ(μ / √(1 + π σ²/8)) of MacKay; for K > 2 the mean softmax of S draws. Trained through the
  posterior by the query NLL; the gradient is exact at Newton's fixed point at the cost of one step.

  Args:
    num_features: D.
    hidden: widths of the hidden layers of m and φ.
    width: H of φ.
    prior_scale: factor of φ; a small one starts at the pool, and stays there without evidence.
    inner_steps: Newton steps with line search.
    num_samples: S, for K > 2.

  Reference:
    MacKay 1992 (Neural Computation 4(5)); Harrison et al. 2018, arXiv:1807.08912 (ALPaCA);
    Rasmussen and Williams 2006, chapter 3.
  """
  options.at_least_one(width=width, inner_steps=inner_steps, num_samples=num_samples)
  options.positive(prior_scale=prior_scale)
  mean_network = utility_network(num_features, hidden)
  factor_network = linear_mlp(num_features, hidden, width)

  def init(key):
    key_mean, key_factor = jax.random.split(key)
    return {'mean': mean_network.init(key_mean), 'factors': factor_network.init(key_factor)}

  def parts(params, candidates):
    offset = utilities(mean_network, params['mean'], candidates)
    return offset, prior_scale * embed(factor_network, params['factors'], candidates)

  def adapt(params, support, context, key):
    del context
    offset, factors = parts(params, support.candidates)
    return laplace(offset, factors, support, key, num_steps=inner_steps, num_samples=num_samples)

  def score(params, user_state, candidates):
    offset, factors = parts(params, candidates)
    return offset + factors @ user_state.mean

  def predict(params, user_state, candidates):
    offset, factors = parts(params, candidates)
    return predictive(offset, factors, user_state, candidates)

  def sample(params, user_state, candidates):
    offset, factors = parts(params, candidates)
    return draws(offset, factors, user_state)

  return meta_learner.from_adapt_score(init, adapt, score, predict=predict, sample=sample)


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
