"""Item-based collaborative filtering: who likes an item likes those which the same people liked."""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp

from metapers.core import batches, choice_model, masked, meta_learner, task
from metapers.core.meta_learner import MetaLearner
from metapers.core.task import Candidates, Choices
from metapers.core.types import Array, Bool, Callable, Float
from metapers.learners import newton, options
from metapers.learners import pooled as baselines
from metapers.learners.utility import utilities, utility_network

CHUNK = 32  # known users at once
NEWTON_STEPS = 8


def item_neighbors(
  num_features: int,
  *,
  hidden: Sequence[int] = (),
  num_neighbors: int = 20,
  shrinkage: float = 1.0,
) -> MetaLearner:
  """Returns utilities that an item lends to the items which the same known users chose.

  What a user's comparisons say beyond the pooled utility m, which alone the loss trains, is

    r = Σ_n weight_n (x_chosen - Σ_k P_m(k) x_k),

  the gradient of their log-likelihood by a head on top of m. With r_u of the known users `prepare`
  finds how alike coordinates i and j of the features are, which are items where these are one-hot,

    s_ij = Σ_u r_ui r_uj / √((Σ_u r_ui² + λ)(Σ_u r_uj² + λ)),

  keeps of each row i the k largest |s_ij| to others, S, and gives a user the utility

    u(x) = m(x) + γ x·S r + δ Σ_i s_ii x_i r_i,

  for an item that is met again tells more than one that is alike. γ and δ are those that make every
  other two comparisons of half of the known users most probable, given the rest of theirs and s of
  the other half, and the other way round, under a standard normal prior in units of what γ and δ
  multiply. Without `prepare` both are 0. The user state is r; parameters hold D² numbers, 40 kB of
  100 items and 14 GB of 60,000.

  Args:
    num_features: D.
    hidden: widths of the hidden layers of m.
    num_neighbors: k; all other coordinates where they are fewer.
    shrinkage: λ, against coordinates that hardly anybody compared.

  Raises:
    ValueError: for an option out of range.

  Reference:
    Sarwar et al. 2001 (WWW); Cremonesi et al. 2010 (RecSys), where sums are not divided by the
    similarities, either. Unlike there, ratings are residuals of comparisons, and γ makes
    probabilities of scores.
  """
  options.at_least_one(num_neighbors=num_neighbors)
  options.not_negative(shrinkage=shrinkage)
  network = utility_network(num_features, hidden)
  pooled = baselines.pooled(num_features, hidden=hidden)
  most_alike = functools.partial(similarities, num_neighbors=num_neighbors, shrinkage=shrinkage)

  def init(key):
    weights = jnp.zeros((num_features, num_features), jnp.float32)
    return {'pooled': network.init(key), 'weights': weights}

  @jax.jit
  def prepare(params, histories, key):
    del key
    offset = functools.partial(utilities, network, params['pooled'])
    known = histories.support
    num_users, length = known.mask.shape
    is_given = jnp.arange(length)[None] // 2 % 2 == 0  # on one side both halves of a tie
    of_all, of_given = residuals(offset, known), residuals(offset, only(known, is_given))
    is_first = (jnp.arange(num_users) % 2 == 0)[:, None]
    first, second = (most_alike(jnp.where(half, of_all, 0)) for half in (is_first, ~is_first))
    lent = [
      jnp.where(is_first, of_given @ theirs.T, of_given @ ours.T)
      for ours, theirs in zip(first, second, strict=True)
    ]
    scales = best_scales(offset, only(known, ~is_given), jnp.stack(lent, -1))
    return params | {'weights': jnp.tensordot(scales, jnp.stack(most_alike(of_all)), 1)}

  def adapt(params, support, context, key):
    del context, key
    return residual(functools.partial(utilities, network, params['pooled']), support)

  def update(params, user_state, comparison, context, key):
    return user_state + adapt(params, comparison, context, key)

  def score(params, user_state, candidates):
    lent = candidates.features @ (params['weights'] @ user_state)
    return utilities(network, params['pooled'], candidates) + lent

  def loss(params, episode, key):
    return pooled.loss(params['pooled'], episode, key)

  return meta_learner.from_adapt_score(
    init, adapt, score, loss=loss, prepare=prepare, update=update
  )


def only(known: Choices, kept: Bool[Array, '1 N']) -> Choices:
  """Returns the comparisons [U, N] at some places."""
  return known._replace(mask=known.mask & kept, weight=known.weight * kept)


def residual(
  offset: Callable[[Candidates], Float[Array, 'N K']], support: Choices
) -> Float[Array, 'D']:
  """Returns what a user's comparisons say beyond the utility `offset`, see `item_neighbors`."""
  log_p = choice_model.log_probs(offset(support.candidates), support.candidates.mask)
  surprise = task.chosen_mask(support) - jnp.exp(log_p)  # [N, K], 0 where a candidate is masked
  weight = support.weight * support.mask
  return jnp.einsum('n,nk,nkd->d', weight, surprise, support.candidates.features)


def residuals(
  offset: Callable[[Candidates], Float[Array, 'N K']], known: Choices
) -> Float[Array, 'U D']:
  """Returns the residual of each known user, [U, D]."""

  def of_user(user):
    return residual(offset, task.take(known, user))

  return batches.map_chunks(of_user, known.mask.shape[0], CHUNK)


def similarities(
  given: Float[Array, 'U D'], *, num_neighbors: int, shrinkage: float
) -> tuple[Float[Array, 'D D'], Float[Array, 'D D']]:
  """Returns S, with at most `num_neighbors` others in each row, and the diagonal of s, [D, D]."""
  products = given.T @ given
  size = jnp.diag(products) + shrinkage
  both = jnp.sqrt(size[:, None] * size[None])
  alike = products / jnp.where(both > 0, both, 1)
  own = jnp.diag(jnp.diag(alike))
  others, rows = alike - own, jnp.arange(len(alike))[:, None]
  _, nearest = jax.lax.top_k(jnp.abs(others), min(num_neighbors, len(alike)))
  is_near = jnp.zeros(alike.shape, bool).at[rows, nearest].set(True)
  return masked.fill(others, is_near), own


def best_scales(
  offset: Callable[[Candidates], Float[Array, 'N K']], known: Choices, lent: Float[Array, 'U D H']
) -> Float[Array, 'H']:
  """Returns the most probable γ [H] of comparisons [U, N] with utilities offset + γ·(x lent).

  The prior is standard normal where each x lent, of H, has a root mean square of 1 over what was
  compared.
  """

  def of_user(user):
    own = task.take(known, user)
    return offset(own.candidates), own.candidates.features @ lent[user]

  scores, factors = batches.map_chunks(of_user, known.mask.shape[0], CHUNK)
  is_real = known.candidates.mask & known.mask[..., None]  # [U, N, K]
  squares = jnp.einsum('unk,unkh->h', is_real.astype(factors.dtype), factors**2)
  spread = jnp.sqrt(squares / jnp.maximum(is_real.sum(), 1))
  spread = jnp.where(spread > 0, spread, 1)
  every = (scores, factors / spread[None, None, None], known)
  as_one = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), every)
  return newton.mode(*as_one, num_steps=NEWTON_STEPS) / spread
