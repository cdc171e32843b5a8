"""Every user's posterior at every number of shots, by two independent halves of particles."""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from metapers.core import masked, task
from metapers.core.population import UserModel
from metapers.core.task import Task, Truth
from metapers.core.types import Array, Bool, Float, Int, PRNGKey
from metapers.evaluation.bayes import evidence, particles
from metapers.evaluation.bayes.evidence import Hidden, Rule, UserModels
from metapers.evaluation.bayes.particles import Particles
from metapers.populations import dirichlet

NUM_HALVES = 2
BANK_SIZE = 4096  # draws from the prior, of which every user takes a window


class Belief(NamedTuple):
  """What one half of the particles of one user predicts at one number of shots.

  counts: [N, K] expected number of particles that would have shown and chosen this.
  slate_scores: [M, R]. effective_size, num_unexplained: [].
  """

  counts: Float[Array, '*L N K']
  slate_scores: Float[Array, '*L M R']
  effective_size: Float[Array, '*L']
  num_unexplained: Int[Array, '*L']


class Person(NamedTuple):
  """What is known of one user: comparisons, in order and real ones first; what is to be predicted.

  num_real: of the comparisons. odds, query_odds: see `Evidence`; None unless slates are hidden.
  statement: see `Evidence`.
  """

  rewards: Float[Array, '*T N E B']
  mask: Bool[Array, '*T N E']
  choice: Int[Array, '*T N']
  weight: Float[Array, '*T N']
  num_real: Int[Array, '*T']
  query_rewards: Float[Array, '*T Q E B']
  query_mask: Bool[Array, '*T Q E']
  slate_rewards: Float[Array, '*T M R B']
  odds: Float[Array, '*T N J'] | None = None
  query_odds: Float[Array, '*T Q J'] | None = None
  statement: Int[Array, '*T'] | None = None


class PairOdds(NamedTuple):
  """The odds of all pairs of T users, see `other_responses.pair_odds`."""

  support: Float[Array, 'T N J']
  query: Float[Array, 'T Q J']


def draw_bank(
  user_models: Sequence[UserModel],
  num_models: int,
  seed: int,
  floor: tuple[float, ...] = (),
  *,
  size: int = BANK_SIZE,
  is_turned: bool = True,
) -> Float[Array, '2 Z G O B']:
  """Returns log-weights from the prior: for each half and user model G draws and O turns of each.

  Without a floor the prior is exchangeable, so that every rotation of a draw is one too; together
  they give each reward model exactly its share, which is most of the variance at small
  concentrations. With a floor a draw stands as it is: O = 1. The turns of one draw are no
  independent users: they have the same entropy, and so few of it that ranks among them are not
  uniform.

  Args:
    user_models: Z of them.
    num_models: B.
    seed: of the draws.
    floor: [B] least weights; none for the whole simplex.
    size: G.
    is_turned: whether all turns of a draw are in the bank; else O = 1.

  Returns:
    [2, Z, G, O, B], Z the number of user models.
  """
  rng = np.random.default_rng(seed)
  alphas = [one.concentration for one in user_models] * NUM_HALVES
  drawn = [dirichlet.sample_above(rng, size, alpha, num_models, floor) for alpha in alphas]
  turns = np.arange(num_models if is_turned and not floor else 1)[:, None] + np.arange(num_models)
  turned = np.stack(drawn)[..., turns % num_models]
  return jnp.asarray(turned.reshape(NUM_HALVES, len(user_models), *turned.shape[1:]))


def people_of(tasks: Task, truth: Truth, most: int, odds: PairOdds | None = None) -> Person:
  """Returns what is known of every user: the first `most` of their real comparisons."""
  real = tasks.support.mask
  order = jnp.argsort(~real, -1, stable=True)[:, :most]
  mask = truth.support_mask & real[..., None]
  rewards = masked.fill_features(truth.support_rewards, mask)
  choice = jnp.where(real, tasks.support.choice, 0)
  weight = masked.fill(tasks.support.weight, real)
  return Person(
    jnp.take_along_axis(rewards, order[..., None, None], 1),
    jnp.take_along_axis(mask, order[..., None], 1),
    jnp.take_along_axis(choice, order, 1),
    jnp.take_along_axis(weight, order, 1),
    real.sum(-1),
    masked.fill_features(truth.query_rewards, truth.query_mask),
    truth.query_mask,
    masked.fill_features(truth.slate_rewards, truth.slate.mask),
    None if odds is None else jnp.take_along_axis(odds.support, order[..., None], 1),
    None if odds is None else odds.query,
  )


def prior(
  key: PRNGKey,
  bank: Float[Array, 'Z G O B'],
  user_models: UserModels,
  num_particles: int,
  most: int,
  statement: Int[Array, ''] | None = None,
) -> Particles:
  """Returns about `num_particles` of a window of the bank, equally many of each user model."""
  num_kinds, num_draws, num_turns, num_models = bank.shape
  each = num_particles // num_kinds
  num_rows = -(-each // num_turns)
  start = jax.random.randint(key, (), 0, num_draws, jnp.int32)
  rows = bank[:, (start + jnp.arange(num_rows)) % num_draws]
  log_weights = rows.reshape(num_kinds, -1, num_models)[:, :each].reshape(-1, num_models).T
  repeated = jax.tree.map(lambda x: jnp.repeat(x, each), user_models)
  rung = jnp.zeros(most, jnp.int32)
  if statement is not None:
    log_weights = as_stated(log_weights, statement)
  return Particles(log_weights, jnp.zeros(num_kinds * each, bank.dtype), repeated, rung)


def as_stated(log_weights: Float[Array, 'B S'], statement: Int[Array, '']) -> Float[Array, 'B S']:
  """Returns draws from the prior of who says which reward model has most of their weight.

  The largest weight changes places with that of the model named. A prior without a floor is
  exchangeable, so that this is its law given the statement.

  Args:
    log_weights: draws from the prior.
    statement: the model named; negative for none, which leaves draws as they are.
  """
  largest = jnp.argmax(log_weights, 0)
  named = jnp.where(statement < 0, largest, statement)
  there = jnp.take_along_axis(log_weights, named[None], 0)
  model = jnp.arange(log_weights.shape[0])[:, None]
  others = jnp.where(model == largest[None], there, log_weights)
  return jnp.where(model == named[None], log_weights.max(0)[None], others)


def counts(
  now: Particles,
  rewards: Float[Array, 'N E B'],
  mask: Bool[Array, 'N E'],
  rule: Rule,
  *,
  hidden: Hidden | None = None,
  odds: Float[Array, 'N J'] | None = None,
) -> Float[Array, 'N K']:
  """Returns how many particles are expected to show and choose each candidate shown: [N, K]."""
  weights = jnp.exp(now.log_weights)

  def count(candidate):
    choice = jnp.full(mask.shape[0], candidate)
    asked = evidence.evidence_of(rewards, mask, choice, rule=rule)
    asked = asked._replace(hidden=hidden, odds=odds)
    p = evidence.likelihood(evidence.gaps_of(asked, weights), asked, now.user_models, rule=rule)
    return particles.mean(p, now) * now.log_importance.size

  return jax.lax.map(count, jnp.arange(rule.num_candidates)).T


def believe(
  now: Particles, person: Person, num_given: Int[Array, ''], rule: Rule, hidden: Hidden | None
) -> Belief:
  """Returns all that the particles predict of one user after `num_given` comparisons."""
  shown = person.query_rewards, person.query_mask
  expected = counts(now, *shown, rule, hidden=hidden, odds=person.query_odds)
  scores = person.slate_rewards @ particles.mean(jnp.exp(now.log_weights), now)
  is_given = (jnp.arange(now.rung.size) < num_given) & (person.weight > 0)
  unexplained = jnp.sum(is_given & (now.rung < particles.LAST))
  return Belief(expected, scores, particles.effective_size(now.log_importance), unexplained)


def infer_one(
  key: PRNGKey,
  person: Person,
  start: Particles,
  shots: Int[Array, 'L'],
  *,
  rule: Rule,
  hidden: Hidden | None,
) -> Belief:
  """Returns what particles predict of one user at each number of shots, given one after another."""
  given = evidence.evidence_of(person.rewards, person.mask, person.choice, person.weight, rule=rule)
  given = given._replace(hidden=hidden, odds=person.odds, statement=person.statement)

  def absorb(n, now):
    return particles.absorb(jax.random.fold_in(key, n), now, given, n, rule=rule)

  def until(carry, count):
    now, num_given = carry
    count = jnp.minimum(count, person.num_real)
    now = jax.lax.fori_loop(num_given, count, absorb, now)
    return (now, count), believe(now, person, count, rule, hidden)

  return jax.lax.scan(until, (start, jnp.zeros_like(person.num_real)), shots)[1]


@functools.partial(jax.jit, static_argnames=('rule', 'num_particles'))
def infer(
  key: PRNGKey,
  people: Person,
  bank: Float[Array, '2 Z G O B'],
  user_models: UserModels,
  shots: Int[Array, 'L'],
  *,
  rule: Rule,
  num_particles: int,
  hidden: Hidden | None = None,
) -> Belief:
  """Returns what two independent halves of particles predict of every user: [2, L, T, ...].

  Each half has what is hidden of its own, by the first axis of `hidden`.

  One user at a time: the particles of one fill the processor, and a user whose particles need no
  moves skips them, which `vmap` over users could not.
  """
  num_users, most = people.choice.shape

  def one(index):
    half, user = jnp.divmod(index, num_users)
    key_start, key_moves = jax.random.split(jax.random.fold_in(key, index))
    person = task.take(people, user)
    start = prior(key_start, bank[half], user_models, num_particles, most, person.statement)
    own = task.take(hidden, half)
    return infer_one(key_moves, person, start, shots, rule=rule, hidden=own)

  flat = jax.lax.map(one, jnp.arange(NUM_HALVES * num_users))
  return jax.tree.map(lambda x: x.reshape(NUM_HALVES, num_users, *x.shape[1:]).swapaxes(1, 2), flat)
