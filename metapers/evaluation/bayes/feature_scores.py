"""Scores that are read from features: what is expected of them, and how far they scatter.

Inside a prompt, score contrasts of two responses are r_a - r_b = Aᵀ(x_a - x_b) + ε with
ε ~ N(0, Σ); A is the ridge of `oracle_features`, Σ the second moment of ε over the pairs of
responses to train prompts. So given the weights the gap of utility is N(w·Aᵀ(x_a - x_b), wᵀΣw).

References:
  Andrews and Mallows 1974 (JRSS B 36) and Stefanski 1991 (Statistics and Probability Letters 11):
  the logistic distribution is a scale mixture of normals.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from metapers.core.population import Responses
from metapers.core.types import Array, Float
from metapers.data import ridge

TINY = float(np.finfo(np.float32).tiny)
NUM_FOLDS = 5
# Trapezoid on log V: sums of normals that are within 4e-7 of the logistic everywhere.
NUM_SCALES, LEAST_SCALE, LARGEST_SCALE = 10, 0.25, 2.6


class Residuals(NamedTuple):
  """How utilities scatter about what features tell of them; the same for all comparisons.

  directions: [1, B, B] rows f_i, so that wᵀΣw = Σ_i (f_i·w)².
  scales, shares: [Q] of the normals that make up the logistic, one of them where nobody is noisy.
  """

  directions: Float[Array, '*H 1 B B']
  scales: Float[Array, '*H Q']
  shares: Float[Array, '*H Q']


def coefficients_of(responses: Responses) -> Float[np.ndarray, 'D B']:
  """Returns the ridge of scores on features inside the prompts, all of which it is fitted on."""
  features, rewards, mask = map(np.asarray, (responses.features, responses.rewards, responses.mask))
  return ridge.within_prompt_ridge(features, rewards, mask, np.ones(len(mask), bool))


def contrast_covariance(responses: Responses) -> Float[np.ndarray, 'B B']:
  """Returns Σ of the contrasts of two responses to a prompt that the ridge has not seen.

  The mean over prompts of that over pairs, 2 / (R - 1) Σ_r e_r e_rᵀ with e the residuals less
  their prompt's mean. Each fifth of the prompts is predicted from the others, so that what is not
  known of the coefficients counts too.

  Args:
    responses: to P >= 2 prompts.
  """
  features, rewards, mask = map(np.asarray, (responses.features, responses.rewards, responses.mask))
  fold = np.arange(len(mask)) % NUM_FOLDS
  residual = np.zeros(rewards.shape, np.float64)
  for held_out in (fold == i for i in np.unique(fold)):
    fitted = ridge.within_prompt_ridge(features, rewards, mask, ~held_out)
    read = ridge.predict(features[held_out], mask[held_out], fitted)
    residual[held_out] = ridge.center(rewards[held_out], mask[held_out]) - read
  size = mask.sum(1)
  pairs = np.where(size > 1, 2 / np.maximum(size - 1, 1), 0)
  total = np.einsum('p,prb,prc->bc', pairs, residual, residual, optimize=True)
  return total / np.maximum((size > 1).sum(), 1)


def logistic_mixture() -> tuple[Float[np.ndarray, 'Q'], Float[np.ndarray, 'Q']]:
  """Returns scales c_i and shares p_i, so that 1 / (1 + exp(-x)) = Σ_i p_i Φ(x / c_i).

  c = 2V, with V of Kolmogorov's distribution, whose density is smooth on log V and dies out fast.
  """
  v = np.geomspace(LEAST_SCALE, LARGEST_SCALE, NUM_SCALES)
  k = (np.arange(1, 60)[:, None] - 0.5) * np.pi
  terms = (k**2 / v**4 - 1 / v**2) * np.exp(-(k**2) / (2 * v**2))
  density = terms.sum(0) * v  # of log V; the constant cancels
  return 2 * v, density / density.sum()


def residuals_of(covariance: Float[np.ndarray, 'B B'], *, is_noisy: bool) -> Residuals:
  """Returns the residuals of a covariance of contrasts.

  Args:
    covariance: Σ, positive semi-definite.
    is_noisy: whether any user's temperature is above 0.
  """
  variance, axes = np.linalg.eigh(covariance)
  rows = np.sqrt(np.maximum(variance, 0))[:, None] * axes.T
  scales, shares = logistic_mixture() if is_noisy else (np.ones(1), np.ones(1))
  return Residuals(*(jnp.asarray(x, jnp.float32) for x in (rows[None], scales, shares)))


def probability(
  gap: Float[Array, 'N S'],
  along: Float[Array, '1 B S'],
  residuals: Residuals,
  temperature: Float[Array, 'S'],
  flip_rate: Float[Array, 'S'],
) -> Float[Array, 'N S']:
  """Returns P(choice | w, features) of two candidates: E[P(choice | gap of utility)].

  f + (1 - 2f) Σ_i p_i Φ(m / √(wᵀΣw + c_i² T²)), f the flip rate and T the temperature.

  Args:
    gap: m, [N, S] expected utility of the chosen candidate minus the other's.
    along: [1, B, S] f_i·w.
    residuals: of all comparisons.
    temperature: [S].
    flip_rate: [S].
  """
  spread = jnp.square(along[0]).sum(0)
  noise = jnp.square(residuals.scales[:, None] * temperature[None])  # [Q, S]
  deviation = jnp.sqrt(jnp.maximum(spread[None] + noise, TINY))
  normal = jax.scipy.stats.norm.cdf(gap[None] / deviation[:, None])  # [Q, N, S]
  chosen = jnp.tensordot(residuals.shares, normal, 1)
  return chosen + flip_rate[None] * (1 - 2 * chosen)
