"""A low-rank basis of rewards shared by all users, and weights of each: fitted jointly.

u(x) = w_u · φ(x), with φ and a table of the known users' weights trained on all their comparisons.
Of a new user only w_u is fitted: a problem of few numbers, which is convex. The learners differ in
what weights may be, and in how a new user's are found from few comparisons.
"""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from metapers.core import choice_model, meta_learner
from metapers.core.meta_learner import FromHistories, MetaLearner
from metapers.core.task import Choices
from metapers.core.types import Array, Callable, Float, Params, Scalar
from metapers.learners import newton, options, simplex, svd_start
from metapers.learners.utility import embed
from metapers.networks.linear_mlp import linear_mlp
from metapers.networks.network import Network

SMALLEST = 1e-6  # spread of known users' weights, who may be all alike


class Weighting(NamedTuple):
  """What the weights of users may be, and how those of a new one are found.

  init: `(key) -> params`, with the 'table' [U, rank] among them. of_row: `(row) -> w [rank]`.
  scale: of all scores. refit: `(params, φ [N, K, rank], support) -> w [rank]`
  of a new user. penalty: `(w) -> nats`, of a known user's weights.
  """

  init: Callable[..., Params]
  of_row: Callable[[Array], Array]
  scale: float
  refit: Callable[[Params, Array, Choices], Array]
  penalty: Callable[[Array], Scalar | float] = lambda weights: 0.0


def low_rank(
  num_features: int,
  num_users: int,
  *,
  hidden: Sequence[int] = (),
  rank: int = 10,
  inner_steps: int = 50,
  inner_learning_rate: float = 0.5,
  prior_strength: float = 1.0,
) -> MetaLearner:
  """Returns LoRe: u(x) = w_u · φ(x), w_u on the simplex, φ(x) = V x (+ MLP(x)) of `rank` outputs.

  φ, its scale and a table of the known users' weights are fitted jointly. A new user starts from
  their mean w̄ and solves the convex problem min_w NLL(w) + λ KL(w ‖ w̄) by exponentiated
  gradient: w ← w^(1-ηλ) w̄^(ηλ) exp(-η ∇NLL), normalised, with η halved where a step raises it.
  The user state is w_u [rank].

  Args:
    num_features: D.
    num_users: U, the known users; a finite population is needed.
    hidden: widths of φ's hidden layers; none is LoRe's linear basis.
    rank: number of basis rewards.
    inner_steps: steps of the refit.
    inner_learning_rate: η (λ + n) for n comparisons, at the first step: divided by what they and
      the prior weigh. Below 1.
    prior_strength: λ > 0, in comparisons.

  Raises:
    ValueError: if there are no known users, or for an option out of range.

  Reference:
    Bose et al. 2025, arXiv:2504.14439. Unlike the paper, the refit starts at w̄ and is
    held to it by λ; `lore` has the paper's own.
  """
  options.at_least_one(rank=rank)
  network = linear_mlp(num_features, hidden, rank)

  def init(key):
    return {'basis': network.init(key), 'log_scale': jnp.zeros((), jnp.float32)}

  def basis_scores(params, weights, candidates):
    scores = embed(network, params['basis'], candidates) @ weights
    return jnp.exp(params['log_scale']) * scores

  return simplex.on_simplex(
    'low_rank',
    init,
    basis_scores,
    num_users,
    rank,
    inner_steps=inner_steps,
    inner_learning_rate=inner_learning_rate,
    prior_strength=prior_strength,
  )


def lore(
  num_features: int,
  num_users: int,
  *,
  rank: int = 5,
  temperature: float = 100.0,
  inner_steps: int = 500,
  inner_learning_rate: float = 0.1,
) -> MetaLearner:
  """Returns LoRe as published: u(x) = softmax(ω_u) · V x / temperature.

  V and the known users' ω are fitted jointly to all comparisons. A new user's ω minimises the mean
  NLL of the support alone, by Adam, from the log of the known users' mean weights. With one basis
  reward it is the Bradley-Terry model of everyone. The user state is the weights softmax(ω_u).

  At this temperature V has to grow to hundreds: train with `learning_rate` 0.5, as the paper does.

  Args:
    num_features: D.
    num_users: U, the known users; a finite population is needed.
    rank: number of basis rewards; 0 to 5 are published, for PersonalLLM.
    temperature: of the logits; 100 as published. It sets how fast V learns, beside ω.
    inner_steps: steps of Adam; 500 as published.
    inner_learning_rate: their size, as published.

  Raises:
    ValueError: if there are no known users, or for an option out of range.

  Reference:
    Bose et al. 2025, arXiv:2504.14439. Unlike the paper, a new user starts at the mean of the known
    ones and not at random, so that no comparisons give the best answer for anyone.
  """
  options.known_users('lore', num_users)
  options.at_least_one(rank=rank, inner_steps=inner_steps)
  options.positive(temperature=temperature, inner_learning_rate=inner_learning_rate)

  def init(key):
    return {'table': jax.random.normal(key, (num_users, rank), jnp.float32)}

  def refit(params, features, support):
    def support_loss(logits):
      scores = features @ jax.nn.softmax(logits) / temperature
      return choice_model.nll(choice_model.log_probs(scores, support.candidates.mask), support)

    start = simplex.log_mean_of(params['table'])
    return jax.nn.softmax(_adam(support_loss, start, inner_learning_rate, num_steps=inner_steps))

  network = linear_mlp(num_features, (), rank)
  return _learner(network, Weighting(init, jax.nn.softmax, 1 / temperature, refit))


def rfm(
  num_features: int,
  num_users: int,
  *,
  hidden: Sequence[int] = (),
  rank: int = 32,
  ridge: float = 1.0,
  inner_steps: int = 10,
  l2: float = 0.0,
  start_svd: bool = False,
) -> MetaLearner:
  """Returns the reward-feature model: u(x) = w_u · φ(x) with free weights, φ(x) = V x (+ MLP(x)).

  φ and a table of the known users' weights are fitted jointly. With w̄ the mean of that table and s²
  the variance of its entries about it, a new user's weights solve, by Newton's method,

    min_w NLL(support) + ½ ridge / s² ‖w - w̄‖²,

  ridge-logistic regression whose strength does not depend on the units of φ: at 1 users are taken
  to differ as the known ones do. The user state is w_u [rank].

  Args:
    num_features: D.
    num_users: U, the known users; a finite population is needed.
    hidden: widths of φ's hidden layers.
    rank: number of reward features; 8, 32 and 128 are published.
    ridge: of the refit.
    inner_steps: Newton steps with line search.
    l2: of known users in training: their mean NLL is raised by l2 ‖w_u‖².
    start_svd: start from the truncated SVD of the known users' linear utilities, see `svd_start`;
      features beyond its rank start at 0, hidden layers as they are.

  Raises:
    ValueError: if there are no known users, or for an option out of range.

  Reference:
    Barreto et al. 2025, arXiv:2503.17338. Unlike the paper, φ is learned on given features, and the
    regression is shrunk to the known users' mean, which is the answer without comparisons.
  """
  options.known_users('rfm', num_users)
  options.at_least_one(rank=rank, inner_steps=inner_steps)
  options.positive(ridge=ridge)
  options.not_negative(l2=l2)

  def init(key):  # around one random user: else the start says nothing of what all have in common
    key_mean, key_rows = jax.random.split(key)
    mean = jax.random.normal(key_mean, (1, rank), jnp.float32)
    return {'table': mean + jax.random.normal(key_rows, (num_users, rank), jnp.float32)}

  def refit(params, features, support):
    mean = params['table'].mean(0)
    spread = jnp.sqrt(jnp.mean((params['table'] - mean[None]) ** 2))
    scale = jnp.maximum(spread, SMALLEST) / jnp.sqrt(ridge)
    return mean + scale * newton.mode(
      features @ mean, scale * features, support, num_steps=inner_steps
    )

  return _learner(
    linear_mlp(num_features, hidden, rank),
    Weighting(init, lambda row: row, 1.0, refit, lambda w: l2 * w @ w),
    start=functools.partial(_start_at_svd, rank) if start_svd else None,
  )


def pref(
  num_features: int,
  num_users: int,
  *,
  hidden: Sequence[int] = (),
  rank: int = 5,
  ridge: float = 1.0,
  inner_steps: int = 10,
  l2: float = 0.02,
) -> MetaLearner:
  """Returns reward factorisation: `rfm` with few features, small weights and a start by SVD.

  Args:
    num_features: D.
    num_users: U, the known users; a finite population is needed.
    hidden: widths of φ's hidden layers.
    rank: number of reward features; 5 as published.
    ridge: of the refit, see `rfm`.
    inner_steps: Newton steps with line search.
    l2: of known users in training; 0.02 as published.

  Raises:
    ValueError: if there are no known users, or for an option out of range.

  Reference:
    Shenfeld et al. 2025, arXiv:2503.06358. Unlike the paper, users saw different pairs, so that the
    SVD is of the imputed matrix's regression on features; and the refit is that of `rfm`.
  """
  return rfm(
    num_features,
    num_users,
    hidden=hidden,
    rank=rank,
    ridge=ridge,
    inner_steps=inner_steps,
    l2=l2,
    start_svd=True,
  )


def _learner(
  network: Network, weighting: Weighting, *, start: FromHistories | None = None
) -> MetaLearner:
  def init(key):
    key_basis, key_table = jax.random.split(key)
    return {'basis': network.init(key_basis), **weighting.init(key_table)}

  def score(params, weights, candidates):
    return weighting.scale * (embed(network, params['basis'], candidates) @ weights)

  def adapt(params, support, context, key):
    del context, key
    return weighting.refit(params, embed(network, params['basis'], support.candidates), support)

  loss = simplex.loss_of_rows(score, weighting.of_row, weighting.penalty)
  return meta_learner.from_adapt_score(init, adapt, score, loss=loss, start=start)


def _start_at_svd(rank, params, histories, key):
  del key
  found = svd_start.factors(histories, rank)
  size = found.weights.shape[1]  # below the rank where there are fewer features or users
  table = params['table'].at[histories.user, :size].set(found.weights, mode='drop')
  linear = params['basis']['linear']
  kernel = linear['kernel'].at[:, :size].set(found.directions)
  if size < rank:  # spare features start at 0, and are learned: their weights start at random
    kernel = kernel.at[:, size:].set(0)
  return params | {
    'table': table,
    'basis': params['basis'] | {'linear': linear | {'kernel': kernel}},
  }


def _adam(
  loss: Callable[[Array], Scalar], start: Float[Array, 'rank'], rate: float, *, num_steps: int
) -> Float[Array, 'rank']:
  optimizer = optax.adam(rate)

  def step(carry, _):
    theta, state = carry
    updates, state = optimizer.update(jax.grad(loss)(theta), state)
    return (theta + updates, state), None

  (theta, _), _ = jax.lax.scan(step, (start, optimizer.init(start)), length=num_steps)
  return theta
