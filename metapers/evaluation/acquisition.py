"""Acquisition functions: the value of asking each comparison of a pool, by draws from a posterior.

Every rule maps a `Pool` to a value per comparison [N]; the largest is asked next. All but `random`
are functions of the same S draws, whatever learner they come from.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from metapers.core import batches, choice_model, masked
from metapers.core.types import Array, Bool, Callable, Float, Int, PRNGKey

NUM_HISTORIES = 128  # of answers to a batch of questions
CHUNK_SIZE = 16  # histories whose entropies are worked out at once


class Pool(NamedTuple):
  """What could be asked, and what is to be predicted, under S draws from a posterior.

  utilities: [S, N, K] in logits, so that a noiseless choice has very large ones. mask: [N, K].
  targets: [S, Q, K] likewise, of comparisons like those to be predicted; the same draws.
  target_mask: [Q, K]. key: for a rule that draws.
  """

  utilities: Float[Array, 'S N K']
  mask: Bool[Array, 'N K']
  targets: Float[Array, 'S Q K']
  target_mask: Bool[Array, 'Q K']
  key: PRNGKey


Acquisition = Callable[[Pool], Float[Array, 'N']]


def probabilities(
  utilities: Float[Array, 'S N K'], mask: Bool[Array, 'N K']
) -> Float[Array, 'S N K']:
  """Returns each draw's choice probabilities; 0 where masked."""
  return jnp.exp(jax.vmap(choice_model.log_probs, (0, None))(utilities, mask))


def entropy_of(p: Float[Array, '*batch'], axis: int | tuple[int, ...]) -> Array:
  """Returns -Σ p log p along `axis`, in nats; p = 0 adds nothing."""
  return -jnp.sum(jax.scipy.special.xlogy(p, p), axis)


def random(pool: Pool) -> Float[Array, 'N']:
  """Returns a value for every comparison that is drawn uniformly."""
  return jax.random.uniform(pool.key, pool.mask.shape[:1], jnp.float32)


def entropy(pool: Pool) -> Float[Array, 'N']:
  """Returns H(mean_s p_s), in nats: the uncertainty of the answer, whatever its reason.

  Reference:
    Lewis and Gale 1994, arXiv:cmp-lg/9407020 (uncertainty sampling).
  """
  return entropy_of(probabilities(pool.utilities, pool.mask).mean(0), -1)


def d_optimal(pool: Pool) -> Float[Array, 'N']:
  """Returns tr(F Σ), the first order of log det(I + F Σ): what an answer shrinks the posterior by.

  F = diag(p) - p pᵀ is the Fisher information of a choice with the mean probabilities p and Σ the
  posterior covariance of its utilities. For K = 2 this is p (1 - p) Var(gap), which grows with the
  determinant: greedy D-optimal design.

  Reference:
    PReF (Shenfeld et al. 2025, arXiv:2503.06358). Unlike the paper, which takes σ'(û·v)² vᵀM⁻¹v,
    the weight is not squared, as in the determinant, and p is averaged over the posterior.
  """
  p = probabilities(pool.utilities, pool.mask).mean(0)[None]
  utilities = jnp.where(pool.mask[None], pool.utilities, 0)
  deviation = utilities - utilities.mean(0, keepdims=True)
  deviation -= jnp.sum(p * deviation, -1, keepdims=True)
  return jnp.sum(p * deviation**2, -1).mean(0)


def bald(pool: Pool) -> Float[Array, 'N']:
  """Returns H(mean_s p_s) - mean_s H(p_s), in nats: the information of the answer on the user.

  Of noiseless draws this is the entropy of their votes.

  Reference:
    Houlsby et al. 2011, arXiv:1112.5745.
  """
  log_p = jax.vmap(choice_model.log_probs, (0, None))(pool.utilities, pool.mask)
  return mutual_information(log_p)


def mutual_information(log_p: Float[Array, 'S N K']) -> Float[Array, 'N']:
  """Returns H(mean_s p_s) - mean_s H(p_s), in nats, from log-probabilities.

  Reference:
    Houlsby et al. 2011, arXiv:1112.5745 (BALD).
  """
  log_mean = jax.nn.logsumexp(log_p, 0) - jnp.log(log_p.shape[0])
  within = -jnp.sum(jnp.exp(log_p) * log_p, -1).mean(0)
  return jnp.maximum(-jnp.sum(jnp.exp(log_mean) * log_mean, -1) - within, 0.0)


def epig(pool: Pool) -> Float[Array, 'N']:
  """Returns the mean over targets of I(answer; answer to the target), in nats.

  With the joint 1/S Σ_s p_s(k) p_s(j): the part of an answer's information on the user that bears
  on predictions. Few draws overstate it, by up to about (K - 1)² / 2S nats, the same for all.

  Reference:
    Bickford Smith et al. 2023, arXiv:2304.08151.
  """
  p = probabilities(pool.utilities, pool.mask)
  target = probabilities(pool.targets, pool.target_mask)
  joint = jnp.einsum('snk,sqj->nqkj', p, target) / p.shape[0]
  own = entropy_of(p.mean(0), -1)[:, None] + entropy_of(target.mean(0), -1)[None]
  information = own - entropy_of(joint, (-2, -1))  # [N, Q]
  real = jnp.broadcast_to(pool.target_mask.any(-1)[None], information.shape)
  return jnp.maximum(masked.mean(information, real, -1), 0)


class Batch(NamedTuple):
  """Comparisons to be asked together.

  index: [n] positions in the pool, in the order chosen. information: [n], what each answer adds to
  those before it, I(y_i; draw | y_1, ..., y_{i-1}), in nats: their sum is that of the batch.
  """

  index: Int[Array, 'n']
  information: Float[Array, 'n']


class Histories(NamedTuple):
  """Answers to the questions of a batch so far, M of them.

  probability: [M], sum 1. draws: [M, S], the probability of each draw given those answers.
  """

  probability: Float[Array, 'M']
  draws: Float[Array, 'M S']


def batch(
  log_p: Float[Array, 'S N K'],
  mask: Bool[Array, 'N'],
  count: int,
  *,
  num_histories: int = NUM_HISTORIES,
) -> Batch:
  """Returns comparisons whose answers together say most of the user, chosen greedily.

  Each maximises I(y; draw | answers to those before it) = Σ_h P(h) H(Σ_s P(s | h) p_s) - mean_s
  H(p_s), h over what may be answered to those before it, so that what they would say already counts
  no second time. Greedy choice has at least 1 - 1/e of the information of the best batch, for it is
  submodular. S draws tell no more than log S nats: questions beyond those that tell all draws apart
  add nothing.

  Args:
    log_p: log-probabilities of N comparisons under S draws.
    mask: those that may be asked.
    count: n, at most as many as those.
    num_histories: M; exact while the answers K^(i-1) are no more, then M of them by systematic
      resampling.

  Reference:
    Kirsch et al. 2019, arXiv:1906.08158 (BatchBALD). Unlike the paper, which draws configurations
    of answers at random, those at evenly spaced quantiles are kept, so that nothing is random.
  """
  p = jnp.exp(log_p)
  num_draws = p.shape[0]
  within = entropy_of(p, -1).mean(0)  # [N]
  nothing = jnp.zeros(num_histories, p.dtype).at[0].set(1)
  draws = jnp.full((num_histories, num_draws), 1 / num_draws, p.dtype)

  def turn(carry, _):
    histories, left = carry
    gain = jnp.maximum(expected_entropy(histories, p) - within, 0)
    chosen = masked.argmax(gain, left)
    after = answered_either_way(histories, p[:, chosen])
    return (after, left.at[chosen].set(False)), Batch(chosen, gain[chosen])

  return jax.lax.scan(turn, (Histories(nothing, draws), mask), length=count)[1]


def expected_entropy(histories: Histories, p: Float[Array, 'S N K']) -> Float[Array, 'N']:
  """Returns the entropy of the next answer given the ones before it, in nats."""

  def entropy_after(history):
    return entropy_of(jnp.einsum('s,snk->nk', histories.draws[history], p), -1)

  size = histories.probability.shape[0]
  return histories.probability @ batches.map_chunks(entropy_after, size, CHUNK_SIZE)


def answered_either_way(histories: Histories, p: Float[Array, 'S K']) -> Histories:
  """Returns the histories with every answer to one more question; as many as before."""
  size = histories.probability.shape[0]
  joint = histories.draws[:, None] * p.T[None]  # [M, K, S]
  joint = (histories.probability[:, None, None] * joint).reshape(-1, p.shape[0])
  kept, probability = resample(joint.sum(-1), size)
  total = joint[kept].sum(-1, keepdims=True)
  return Histories(probability, joint[kept] / jnp.where(total > 0, total, 1))


def resample(
  probability: Float[Array, 'n'], size: int
) -> tuple[Int[Array, 'size'], Float[Array, 'size']]:
  """Returns `size` positions, and a probability each: all that are above 0 where they are no more.

  Else those at evenly spaced quantiles of the sorted probabilities, each with the same.
  """
  order = jnp.argsort(-probability)
  quantiles = (jnp.arange(size) + 0.5) / size
  cumulated = jnp.cumsum(probability[order])
  spaced = jnp.searchsorted(cumulated / cumulated[-1], quantiles).clip(max=order.size - 1)
  is_exact = (probability > 0).sum() <= size
  kept = order[jnp.where(is_exact, jnp.arange(size), spaced)]
  return kept, jnp.where(is_exact, probability[kept], 1 / size)


RULES: dict[str, Acquisition] = {
  'random': random,
  'entropy': entropy,
  'd_optimal': d_optimal,
  'bald': bald,
  'epig': epig,
}
