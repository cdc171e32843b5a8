"""Sequential Monte Carlo over one simulated user's weights: the exact posterior, by particles.

The target after n comparisons is Dirichlet(w; α) Π_i P(shown_i, choice_i | w)^weight_i. Particles
are reweighted by one comparison at a time and, when few of them carry the weight, resampled and
moved. Weights stay in log space: at α = 0.001 most are below float32's smallest number.

References:
  Chopin 2002 (Biometrika 89), sequential particles for a fixed parameter; Del Moral, Doucet and
  Jasra 2006 (JRSS B 68), tempering and moves.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from metapers.core.types import Array, Bool, Float, Int, PRNGKey
from metapers.evaluation.bayes import evidence, lines, slice_sampling
from metapers.evaluation.bayes.evidence import TINY, Evidence, Rule, UserModels

# A new comparison enters as (1 - ε) P + ε, with ε falling down this ladder as fast as enough
# particles survive: a choice that one particle in 10^5 foresaw still has a path to its posterior.
LADDER = (1.0, 1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 0.0)
LAST = len(LADDER) - 1
LEAP_ESS = 0.2  # share of the particles that a step must leave effective, to skip rungs
LEAST_ESS = 0.5  # below this share, particles are resampled and moved
WAIT_ESS = 0.02  # below this share, particles first move on where they are,
PATIENCE = 40  # this often at most
FEW = 16  # comparisons that have moves of their own, as most are made at the first ones
SLACK = 1e-5  # of log-odds: where a particle stands must not be lost by rounding


class Particles(NamedTuple):
  """A weighted sample of one user's posterior.

  log_weights: [B, S] of the reward models; exp of each column sums to 1.
  log_importance: [S] of each particle, up to a constant.
  user_models: [S] each particle's own, by which a mixture of them is inferred.
  rung: [N] how far down LADDER each comparison has come; 0 is not yet given.
  """

  log_weights: Float[Array, 'B S']
  log_importance: Float[Array, 'S']
  user_models: UserModels
  rung: Int[Array, 'N']


def shares(log_importance: Float[Array, '*R S']) -> Float[Array, '*R S']:
  """Returns importances that sum to 1; all 0 where no particle is left."""
  largest = log_importance.max(-1, keepdims=True)
  unnormalised = jnp.exp(log_importance - jnp.where(jnp.isfinite(largest), largest, 0))
  return unnormalised / jnp.maximum(unnormalised.sum(-1, keepdims=True), TINY)


def effective_size(log_importance: Float[Array, '*R S']) -> Float[Array, '*R']:
  """Returns the effective sample size 1 / Σ share²; 0 where no particle is left."""
  share = shares(log_importance)
  return share.sum(-1) / jnp.maximum(jnp.sum(share**2, -1), TINY)


def mean(values: Float[Array, '*N S'], particles: Particles) -> Float[Array, '*N']:
  """Returns the average of the particles' values, by importance."""
  return values @ shares(particles.log_importance)


def resample(key: PRNGKey, particles: Particles) -> Particles:
  """Returns as many particles drawn by importance, systematically: of one random number."""
  return pick(
    particles,
    jax.random.uniform(key, dtype=particles.log_importance.dtype),
    particles.log_importance.size,
  )


def pick(particles: Particles, offset: float | Float[Array, ''], count: int) -> Particles:
  """Returns the particles at (i + offset) / count, i = 0, 1, ..., of their distribution."""
  edges = jnp.cumsum(shares(particles.log_importance))
  points = (jnp.arange(count) + offset) / count
  last = particles.log_importance.size - 1
  index = jnp.minimum(jnp.searchsorted(edges / edges[-1], points), last)
  return Particles(
    particles.log_weights[:, index],
    jnp.zeros(count, points.dtype),
    jax.tree.map(lambda x: x[index], particles.user_models),
    particles.rung,
  )


def rejuvenate(key: PRNGKey, particles: Particles, given: Evidence, *, rule: Rule) -> Particles:
  """Returns particles after moving mass between each reward model and the others, in turn.

  This leaves the target invariant.

  With t = w_b, and the proportions among the others held fixed, the prior makes
  t ~ Beta(α, (B - 1) α), and every gap of utility is linear in t. A floor under the weights bounds
  t from both sides.

  Args:
    key: PRNG key.
    particles: whose rungs say how far each comparison counts.
    given: N comparisons.
    rule: what is shown, and the floor.
  """
  num_models = particles.log_weights.shape[0]
  epsilon = jnp.asarray(LADDER, jnp.float32)[particles.rung][:, None]
  first = particles.user_models.concentration
  second = (num_models - 1) * first
  line = slice_sampling.beta_line(first, second)

  def move(log_weights, inputs):
    model, key = inputs
    is_moved = (jnp.arange(num_models) == model)[:, None]
    others = jnp.where(is_moved, -jnp.inf, log_weights)
    log_rest = jax.nn.logsumexp(others, 0)
    least_rest = least_share(others - log_rest[None], rule.floor)
    own_gaps = jax.tree.map(lambda x: x[..., model, None], given.linear)
    rest_gaps = evidence.gaps_of(given, jnp.exp(others - log_rest[None]))
    likelihood = lines.likelihood(own_gaps, rest_gaps, given, particles.user_models, rule=rule)

    def log_target(x):
      own, rest = jax.nn.sigmoid(x), jax.nn.sigmoid(-x)
      p = likelihood(x)
      log_prior = first * jax.nn.log_sigmoid(x) + second * jax.nn.log_sigmoid(-x)
      log_p = jnp.log(epsilon + (1 - epsilon) * p)  # 0 at rung 0, where those of weight 0 stay
      density = log_prior + (given.weight[:, None] * log_p).sum(0)
      if rule.floor:
        is_above = (own >= jnp.asarray(rule.floor, own.dtype)[model]) & (rest >= least_rest)
        density = jnp.where(is_above, density, -jnp.inf)
      if given.statement is not None:
        log_odds = x[None] - (others - log_rest[None])  # of this model to each other one
        is_true = keeps(given.statement, model, log_odds)
        density = jnp.where(is_true, density, -jnp.inf)
      return density

    x = slice_sampling.move(key, log_weights[model] - log_rest, line, log_target)
    others += (jax.nn.log_sigmoid(-x) - log_rest)[None]
    return jnp.where(is_moved, jax.nn.log_sigmoid(x)[None], others), None

  inputs = (jnp.arange(num_models), jax.random.split(key, num_models))
  moved, _ = jax.lax.scan(move, particles.log_weights, inputs)
  return particles._replace(log_weights=jax.nn.log_softmax(moved, 0))


def rejuvenate_first(
  size: int, given: Evidence, rule: Rule, key: PRNGKey, particles: Particles
) -> Particles:
  """Returns particles after the moves of `rejuvenate` that the first comparisons allow.

  Args:
    size: number of comparisons, after which none is given.
    given: N comparisons.
    rule: what is shown, and the floor.
    key: PRNG key.
    particles: whose rungs say how far each comparison counts.
  """
  first = particles._replace(rung=particles.rung[:size])
  moved = rejuvenate(key, first, given.first(size), rule=rule)
  return moved._replace(rung=particles.rung)


def keeps(
  statement: Int[Array, ''], model: Int[Array, ''], log_odds: Float[Array, 'B S']
) -> Bool[Array, 'S']:
  """Returns whether the model named still has most of the weight, where one other is moved.

  Args:
    statement: the model named; negative for none.
    model: the one whose weight is moved; the proportions among the others are as they were.
    log_odds: of its weight to that of each other one, inf for itself.
  """
  is_most = jnp.all(log_odds >= -SLACK, 0)
  is_less = log_odds[jnp.maximum(statement, 0)] <= SLACK
  return (statement < 0) | jnp.where(statement == model, is_most, is_less)


def least_share(log_others: Float[Array, 'B S'], floor: tuple[float, ...]) -> Float[Array, 'S']:
  """Returns how much the other reward models need in all, [S], for each to have its least weight.

  Args:
    log_others: proportions among them, -inf for the one that is not.
    floor: [B] least weights; none asks for nothing.
  """
  if not floor:
    return jnp.zeros(log_others.shape[1], log_others.dtype)
  least = jnp.asarray(floor, log_others.dtype)[:, None]
  needed = least / jnp.maximum(jnp.exp(log_others), TINY)
  return jnp.where(jnp.isfinite(log_others), needed, 0).max(0)


def weigh(
  particles: Particles, given: Evidence, n: Int[Array, ''], *, rule: Rule
) -> tuple[Int[Array, ''], Float[Array, 'S'], Float[Array, '']]:
  """Returns how far down LADDER comparison `n` can go for enough particles to stay effective.

  Returns:
    The rung to go to, one further at least; the particles' importance there; and their effective
    share.
  """
  new = given.only(n)
  gaps = evidence.gaps_of(new, jnp.exp(particles.log_weights))
  p = evidence.likelihood(gaps, new, particles.user_models, rule=rule)
  epsilon = jnp.asarray(LADDER, jnp.float32)[:, None]
  now = particles.rung[n]
  log_p = given.weight[n] * jnp.log(epsilon + (1 - epsilon) * p)  # [rungs, S]
  importance = particles.log_importance[None] + log_p - log_p[now][None]
  share = effective_size(importance) / particles.log_importance.size
  furthest = jnp.max(jnp.where(share >= LEAP_ESS, jnp.arange(LAST + 1, dtype=jnp.int32), 0))
  rung = jnp.maximum(furthest, now + 1)
  return rung, importance[rung], share[rung]


def absorb(
  key: PRNGKey, particles: Particles, given: Evidence, n: Int[Array, ''], *, rule: Rule
) -> Particles:
  """Returns the particles conditioned on comparison `n`; as they are if its weight is 0.

  One that no particle explains, not even in steps and after waiting, stays on the rung it reached,
  short of LAST: it counts as if its label could be any with that rung's ε, and callers count such.

  Args:
    key: PRNG key.
    particles: conditioned on other comparisons.
    given: N comparisons.
    n: which of them is new.
    rule: what is shown.
  """

  sizes = sorted({min(FEW, given.weight.size), given.weight.size})

  def is_unfinished(carry):
    _, particles, waited = carry
    return (particles.rung[n] < LAST) & (waited <= PATIENCE) & (given.weight[n] > 0)

  def refresh(keys, particles):
    drawn = resample(keys[0], particles)
    # Those not given yet have no bearing.
    moves = [functools.partial(rejuvenate_first, size, given, rule) for size in sizes]
    num_given = jnp.max(jnp.where(drawn.rung > 0, 1 + jnp.arange(drawn.rung.size), 0))
    return jax.lax.switch(jnp.searchsorted(jnp.asarray(sizes), num_given), moves, keys[1], drawn)

  def step(carry):
    key, particles, waited = carry
    key, *keys = jax.random.split(key, 3)
    rung, importance, share = weigh(particles, given, n, rule=rule)
    is_waiting = (share == 0) | (share < WAIT_ESS) & (waited < PATIENCE)
    rung = jnp.where(is_waiting, particles.rung[n], rung)
    importance = jnp.where(is_waiting, particles.log_importance, importance)
    reached = Particles(
      particles.log_weights, importance, particles.user_models, particles.rung.at[n].set(rung)
    )
    is_low = is_waiting | (share < LEAST_ESS)
    moved = jax.lax.cond(is_low, refresh, lambda _, same: same, keys, reached)
    return key, moved, waited + is_waiting

  return jax.lax.while_loop(is_unfinished, step, (key, particles, jnp.int32(0)))[1]
