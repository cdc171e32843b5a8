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

  keeps the k largest |s_ij| of each row i, and gives a user the utility u(x) = m(x) + γ x·S r. The
  one number γ is the most likely one: of every other comparison of half of the known users, given
  the rest of theirs and S of the other half, and the other way round. Without `prepare` it is 0.
  The user state is r.

  Args:
    num_features: D.
    hidden: widths of the hidden layers of m.
    num_neighbors: k; all coordinates where they are fewer.
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

  def prepare(params, histories, key):
    del key
    offset = functools.partial(utilities, network, params['pooled'])
    known = histories.support
    num_users, length = known.mask.shape
    is_even = jnp.arange(length)[None] % 2 == 0
    of_all, of_even = residuals(offset, known), residuals(offset, only(known, is_even))
    is_first = (jnp.arange(num_users) % 2 == 0)[:, None]
    halves = [most_alike(jnp.where(half, of_all, 0)) for half in (is_first, ~is_first)]
    lent = jnp.where(is_first, of_even @ halves[1].T, of_even @ halves[0].T)
    scale = best_scale(offset, only(known, ~is_even), lent)
    return params | {'weights': scale * most_alike(of_all)}

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
) -> Float[Array, 'D D']:
  """Returns S [D, D], of each row of which the `num_neighbors` largest by size are not 0."""
  products = given.T @ given
  size = jnp.diag(products) + shrinkage
  both = jnp.sqrt(size[:, None] * size[None])
  alike = products / jnp.where(both > 0, both, 1)
  largest, _ = jax.lax.top_k(jnp.abs(alike), min(num_neighbors, alike.shape[0]))
  return masked.fill(alike, jnp.abs(alike) >= largest[:, -1:])


def best_scale(
  offset: Callable[[Candidates], Float[Array, 'N K']], known: Choices, lent: Float[Array, 'U D']
) -> Float[Array, '']:
  """Returns the γ of utilities offset + γ x·lent under which comparisons [U, N] are likeliest."""

  def of_user(user):
    own = task.take(known, user)
    return offset(own.candidates), own.candidates.features @ lent[user]

  scores, factors = batches.map_chunks(of_user, known.mask.shape[0], CHUNK)
  every = (scores, factors[..., None], known)
  as_one = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), every)
  return newton.mode(*as_one, num_steps=NEWTON_STEPS)[0]
