"""The table of change points, on simulated people of a few types."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_store import small_population

from metapers import learners
from metapers.bench import drift
from metapers.core import task
from metapers.core.population import UserModel
from metapers.core.task import Candidates
from metapers.evaluation import change_points
from metapers.learners import dirichlet_mixture
from metapers.learners.particle_bank import Bank

TURNS, PEOPLE = 26, 24
GRID = dirichlet_mixture.grid_of((0.1, 0.5), (4.0, 32.0))


@functools.cache
def bank():
  cells = jnp.arange(256, dtype=jnp.int32) % 4
  drawn = dirichlet_mixture.draw_inside(GRID, cells, jax.random.key(0), 16)
  return Bank(dirichlet_mixture.heads_of(drawn, 3), jnp.zeros(256))


@functools.cache
def people():
  return small_population(
    concentration=0.1, num_support=TURNS, num_held_out=PEOPLE, num_slates=1, num_query=1
  )


@functools.cache
def found(hazards=(0.0, 0.05)):
  options = {'num_people': PEOPLE, 'hazards': hazards, 'key': jax.random.key(1)}
  small = {'window': 4, 'earliest': 8, 'spans': (4, 16)}
  table = drift.table({'bank': drift.of_bank(bank())}, people(), **options, **small)
  return table.set_index(['extent', 'memory', 'hazard'])


def row(extent, memory, hazard=np.nan):
  table = found()
  at = (table.index.get_level_values('extent') == extent) & (
    table.index.get_level_values('memory') == memory
  )
  same = np.isclose(table.index.get_level_values('hazard'), hazard, equal_nan=True)
  return table[at & same].iloc[0]


def test_without_a_change_and_without_hazard_nothing_is_gained_or_lost():
  for memory, hazard in (('all', np.nan), ('reset', np.nan), ('change points', 0.0)):
    only = row('none', memory, hazard)
    assert only.gain_4 == only.gain_16 == only.gain_every == 0
    assert only.every == row('none', 'all').every


def test_change_points_gain_after_a_change_and_the_oracle_more_than_nothing():
  points, oracle = row('whole', 'change points', 0.05), row('whole', 'reset')
  assert points.gain_16 > points.half_16 > 0
  assert oracle.gain_16 > oracle.half_16 > 0
  assert row('whole', 'all').gain_16 == 0
  assert points.found > 0.5 and 1 <= points.delay <= 16


def test_without_hazard_no_alarm_is_raised():
  assert row('whole', 'change points', 0.0).found == 0
  assert np.isnan(row('whole', 'change points', 0.0).delay)
  assert row('whole', 'change points', 0.0).false_alarms == 0
  assert np.isnan(row('none', 'change points', 0.05).found)


def test_a_delay_counts_comparisons_and_other_alarms_are_false():
  since = np.array([[-2, -1, 0, 1, 2], [-1, 0, 1, 2, 3], [-3, -2, -1, 0, 1]])
  raised = np.array([[0, 1, 0, 1, 1], [0, 0, 0, 0, 0], [0, 0, 0, 1, 0]], bool)
  counts = np.ones((3, 5), bool)
  counts[0, 2] = False
  got = drift.signals(raised, since, counts, changes=True)
  assert got['found'] == 2 / 3
  assert got['delay'] == 1  # of the first the comparison at 0 is masked
  np.testing.assert_allclose(got['false_alarms'], 100 * 2 / 14)
  still = drift.signals(raised, since, counts, changes=False)
  np.testing.assert_allclose(still['false_alarms'], 100 * 4 / 14)


def test_a_gain_is_of_the_same_turns_of_the_same_people():
  since = np.array([[-1, 0, 1], [-2, -1, 0]])
  hits, plain = np.array([[[0, 1, 1], [1, 1, 0]], [[0, 0, 1], [1, 1, 1]]], float)
  got = drift.gains(hits, plain, since, np.ones((2, 3), bool), (2,))
  np.testing.assert_allclose([got['2'], got['gain_2']], [0.5, -0.25])
  np.testing.assert_allclose(got['half_2'], 1.96 * np.std([0.5, -1], ddof=1) / 2**0.5)
  np.testing.assert_allclose([got['every'], got['gain_every']], [2 / 3, 0], atol=1e-12)


def test_a_bank_foresees_as_a_learner_of_it():
  learner = learners.make('dirichlet_mixture', num_features=3, num_particles=64, num_outside=8)
  params = learner.init(jax.random.key(0))
  own = Bank(dirichlet_mixture.heads_of(params['bank'], 3), dirichlet_mixture.grouped(8, 64, 0.02))
  episode = people().episode_of(people().arrays, jnp.int32(0), 'test')[0]
  given = jax.tree.map(lambda x: x[:6], episode.support)
  told = given, episode.context, jax.random.key(0)
  a, b = (jax.jit(one)(*told) for one in (drift.of_bank(own), drift.of_learner(learner, params)))
  upper = np.triu(np.ones((6, 6), bool))
  np.testing.assert_allclose(np.asarray(a)[upper], np.asarray(b)[upper], atol=1e-4)


def test_draws_from_the_prior_of_users_are_their_weights_over_the_temperature():
  users = UserModel(0.3, temperature=0.5)
  features = jnp.zeros((1, 2, 3)).at[0, 0, 1].set(0.5)
  given = task.choices(Candidates(features, jnp.ones((1, 2), bool)), jnp.zeros(1, int))
  found = drift.of_users(users, 3, num_draws=20000)(given, jnp.zeros(0), jax.random.key(0))
  w = np.random.default_rng(0).dirichlet([0.3] * 3, 200_000)[:, 1]
  np.testing.assert_allclose(np.exp(found[0, 0, 0]), (1 / (1 + np.exp(-w))).mean(), atol=3e-3)
  for wrong in (UserModel(0.3), UserModel(0.3, temperature=0.5, flip_rate=0.1)):
    with pytest.raises(ValueError, match='exact_learner'):
      drift.of_users(wrong, 3)


def test_people_who_compare_too_little_are_refused():
  with pytest.raises(ValueError, match='raise num_support'):
    drift.table({}, people(), key=jax.random.key(0))
  assert change_points.HAZARD > 0
