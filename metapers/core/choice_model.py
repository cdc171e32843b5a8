"""The choice model: P(k) ∝ exp(score_k) over the candidates shown (Bradley-Terry is K = 2).

References:
  Bradley and Terry 1952 (Biometrika 39); Luce 1959, Individual Choice Behavior; Plackett 1975.
"""

import jax
import jax.numpy as jnp

from metapers.core import masked
from metapers.core.task import Choices
from metapers.core.types import Array, Bool, Float, Scalar


def log_probs(
  scores: Float[Array, '*T N K'], mask: Bool[Array, '*T N K']
) -> Float[Array, '*T N K']:
  """Returns log P(k) = score_k - log sum_j exp(score_j) over real candidates.

  Args:
    scores: expected utilities [..., N, K], in units of logits.
    mask: [..., N, K], True where the candidate is real.

  Returns:
    Log-probabilities [..., N, K] in nats; masked candidates get the dtype's minimum (exp is 0).
  """
  return masked.log_softmax(scores, mask)


def chosen_log_probs(log_p: Float[Array, '*T N K'], choices: Choices) -> Float[Array, '*T N']:
  """Returns the log-probability of each real choice, in nats: [..., N]; 0 where masked."""
  return masked.fill(_at_choice(log_p, choices), choices.mask)


def nll(log_p: Float[Array, 'N K'], choices: Choices) -> Scalar:
  """Returns the mean negative log-likelihood of the real comparisons by weight, in nats."""
  return -masked.weighted_mean(chosen_log_probs(log_p, choices), choices.mask, choices.weight)


def total_nll(log_p: Float[Array, 'N K'], choices: Choices) -> Scalar:
  """Returns -Σ_n weight_n log P(choice_n) over the real comparisons, in nats.

  The sum and not the mean: every further comparison is further evidence.
  """
  return -jnp.sum(masked.fill(choices.weight, choices.mask) * chosen_log_probs(log_p, choices))


def correct(log_p: Float[Array, '*T N K'], choices: Choices) -> Float[Array, '*T N']:
  """Returns the chance that the argmax, with ties broken at random, is the choice: [..., N].

  1/(number tied) where the choice is among the tied best, so a constant score is worth 1/K.
  """
  mask = choices.candidates.mask
  best = mask & (log_p >= masked.largest(log_p, mask)[..., None])
  hit = _at_choice(best, choices)
  return masked.fill(hit / jnp.maximum(masked.count(best, -1), 1), choices.mask)


def accuracy(log_p: Float[Array, 'N K'], choices: Choices) -> Scalar:
  """Returns the mean of `correct` over the real comparisons by weight, in [0, 1]."""
  return masked.weighted_mean(correct(log_p, choices), choices.mask, choices.weight)


def mean_probability(
  scores: Float[Array, 'S N K'], mask: Bool[Array, 'N K']
) -> Float[Array, 'N K']:
  """Returns log 1/S Σ_s P_s(k), the mean probability under S posterior samples, in nats."""
  log_p = jax.vmap(log_probs, (0, None))(scores, mask)
  averaged = jax.nn.logsumexp(log_p, 0) - jnp.log(scores.shape[0])
  return masked.fill(averaged, mask, float(jnp.finfo(scores.dtype).min))


def _at_choice(values: Array, choices: Choices) -> Array:
  index = jnp.where(choices.mask, choices.choice, 0)  # a masked choice may be out of range
  return jnp.take_along_axis(values, index[..., None], -1)[..., 0]
