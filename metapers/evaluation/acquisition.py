"""Acquisition functions: the value of asking each comparison of a pool, by draws from a posterior.

Every rule maps a `Pool` to a value per comparison [N]; the largest is asked next. All but `random`
are functions of the same S draws, whatever learner they come from.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from metapers.core import choice_model, masked
from metapers.core.types import Array, Bool, Callable, Float, PRNGKey


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


RULES: dict[str, Acquisition] = {
  'random': random,
  'entropy': entropy,
  'd_optimal': d_optimal,
  'bald': bald,
  'epig': epig,
}
