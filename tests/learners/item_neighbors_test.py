"""Item-based collaborative filtering against plain NumPy and scipy."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from scipy import optimize

from metapers import learners
from metapers.core import outcomes, task
from metapers.core.task import Candidates, Task
from metapers.learners import item_neighbors

ITEMS, USERS, LENGTH = 8, 60, 12
KEY = jax.random.key(0)


@functools.cache
def answers():
  """People of two kinds, who like the first or the last items; which items, and which is liked."""
  rng = np.random.default_rng(0)
  pairs = np.array([[rng.permutation(ITEMS)[:2] for _ in range(LENGTH)] for _ in range(USERS)])
  taste = np.where(np.arange(USERS)[:, None] % 3 == 0, 1, -1) * np.linspace(-2, 2, ITEMS)
  gap = np.take_along_axis(taste, pairs[..., 0], 1) - np.take_along_axis(taste, pairs[..., 1], 1)
  choice = (rng.random(gap.shape) > 1 / (1 + np.exp(-gap))).astype(np.int32)
  return pairs, choice, rng.random(gap.shape) < 0.9


def choices(pairs, choice, mask):
  features = jnp.asarray(np.eye(ITEMS, dtype=np.float32)[pairs])
  candidates = Candidates(features, jnp.ones(pairs.shape, bool))
  return task.choices(candidates, jnp.asarray(choice), jnp.asarray(mask))


def histories():
  support = choices(*answers())
  nothing = jax.tree.map(lambda leaf: leaf[:, :0], support)
  return Task(support, nothing, jnp.arange(USERS), jnp.zeros((USERS, 0)))


@functools.cache
def prepared():
  learner = learners.make('item_neighbors', num_features=ITEMS, num_neighbors=3, shrinkage=0.5)
  params = learner.init(KEY)
  pooled = jnp.asarray(np.linspace(-0.4, 0.2, ITEMS, dtype=np.float32))
  leaves, form = jax.tree.flatten(params['pooled'])
  assert [leaf.size for leaf in leaves] == [ITEMS]  # a linear utility of one-hot items
  params['pooled'] = jax.tree.unflatten(form, [pooled.reshape(leaves[0].shape)])
  return learner, params, jax.jit(learner.prepare)(params, histories(), KEY), np.asarray(pooled)


def by_loops(keep):
  """Residuals [U, I] of the comparisons that `keep` says, one by one."""
  pairs, choice, mask = answers()
  made = np.zeros((USERS, ITEMS))
  for user, n in np.argwhere(mask & keep):
    first, second = pairs[user, n]
    p = 1 / (1 + np.exp(prepared()[3][second] - prepared()[3][first]))
    liked = choice[user, n] == 0
    made[user, first] += liked - p
    made[user, second] -= liked - p
  return made


def alike(made):
  size = (made**2).sum(0) + 0.5
  s = made.T @ made / np.sqrt(np.outer(size, size))
  others = s - np.diag(np.diag(s))
  for row in others:
    row[np.argsort(-np.abs(row))[3:]] = 0
  return others, np.diag(np.diag(s))


def test_weights_and_their_scale_are_those_of_loops():
  pairs, choice, mask = answers()
  of_all, of_half = by_loops(np.ones(LENGTH, bool)), by_loops(np.arange(LENGTH) // 2 % 2 == 0)
  first = np.arange(USERS) % 2 == 0
  other = {True: alike(of_all[~first]), False: alike(of_all[first])}
  factors, offsets, lents = [], [], []
  for user, n in np.argwhere(mask & (np.arange(LENGTH) // 2 % 2 == 1)):
    lent = np.stack([s @ of_half[user] for s in other[bool(first[user])]], -1)
    liked, left = pairs[user, n][[choice[user, n], 1 - choice[user, n]]]
    lents.extend([lent[liked], lent[left]])
    factors.append(lent[liked] - lent[left])
    offsets.append(prepared()[3][liked] - prepared()[3][left])
  offset, factor = np.array(offsets), np.array(factors)
  spread = np.sqrt(np.mean(np.square(lents), 0))

  def energy(scales):
    return np.logaddexp(0, -(offset + factor @ scales)).sum() + np.sum((scales * spread) ** 2) / 2

  scales = optimize.minimize(energy, np.zeros(2)).x
  assert np.all(scales > 0.1)
  neighbors, own = alike(of_all)
  expected = scales[0] * neighbors + scales[1] * own
  np.testing.assert_allclose(prepared()[2]['weights'], expected, atol=5e-4)


def test_ties_as_halves_turn_no_sign():
  pairs, choice, mask = answers()
  is_tie = np.random.default_rng(2).random(choice.shape) < 0.5
  tie = ('tie',)
  texts = outcomes.widened(jnp.asarray(np.eye(ITEMS, dtype=np.float32)[pairs]), tie)
  shown = outcomes.expand(Candidates(texts, jnp.ones(pairs.shape, bool)), tie)
  given = task.choices(shown, jnp.asarray(np.where(is_tie, 2, choice)), jnp.asarray(mask))
  read = outcomes.as_pairs(given, tie, 'halves')
  known = histories()._replace(support=read)
  learner = learners.make('item_neighbors', num_features=ITEMS + 1)
  params = jax.tree.map(jnp.zeros_like, learner.init(KEY))  # nothing is pooled
  weights = learner.prepare(params, known, KEY)['weights'][:ITEMS, :ITEMS]
  liked_alike, not_alike = weights[0, 1], weights[0, ITEMS - 1]
  assert liked_alike > 0 > not_alike and np.diag(weights).min() > 0


def test_units_of_features_change_nothing():
  learner = learners.make('item_neighbors', num_features=ITEMS, num_neighbors=3, shrinkage=0.0)

  def weights(unit):
    given = histories()
    candidates = given.support.candidates
    scaled = given._replace(
      support=given.support._replace(
        candidates=candidates._replace(features=unit * candidates.features)
      )
    )
    params = jax.tree.map(jnp.zeros_like, learner.init(KEY))
    return learner.prepare(params, scaled, KEY)['weights'] * unit**2

  np.testing.assert_allclose(weights(0.03), weights(1.0), rtol=1e-3, atol=1e-4)


def test_ties_keep_no_more_neighbors_than_asked():
  given = jnp.array([[1.0, 1, 1, 1], [2, 2, 2, 2]])
  others, own = item_neighbors.similarities(given, num_neighbors=1, shrinkage=0.0)
  np.testing.assert_array_equal((np.asarray(others) != 0).sum(1), 1)
  np.testing.assert_allclose(own, np.eye(4), atol=1e-6)


def test_items_that_people_like_alike_help_each_other():
  learner, _, params, _ = prepared()
  support = choices(np.array([[7, 0], [7, 1]]), np.zeros(2, np.int32), np.ones(2, bool))
  state = learner.adapt(params, support, jnp.zeros(0), KEY)
  asked = Candidates(jnp.eye(ITEMS)[None, jnp.array([6, 2])], jnp.ones((1, 2), bool))
  before = learner.adapt(params, jax.tree.map(lambda x: x[:0], support), jnp.zeros(0), KEY)
  gain = learner.score(params, state, asked) - learner.score(params, before, asked)
  assert gain[0, 0] > 0.1 > gain[0, 1]


def test_without_known_users_it_is_the_pooled_utility():
  learner, params, _, pooled = prepared()
  support = choices(np.array([[7, 0]]), np.zeros(1, np.int32), np.ones(1, bool))
  state = learner.adapt(params, support, jnp.zeros(0), KEY)
  asked = Candidates(jnp.eye(ITEMS)[None], jnp.ones((1, ITEMS), bool))
  np.testing.assert_allclose(learner.score(params, state, asked)[0], pooled, atol=1e-6)
