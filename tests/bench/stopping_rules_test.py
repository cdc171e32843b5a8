"""Stopping rules on simulated people of whom the exact posterior is known."""

import jax
import numpy as np
import pytest
from small_store import small_population

from metapers.bench import stopping
from metapers.bench.stopping import Course, Sure
from metapers.evaluation.bayes import exact_learner

COURSE = Course(
  np.array([[0.3, 0.5, 0.2], [0.9, 0.6, 0.3], [0.1, 0.8, 0.4]]),
  np.array([[1.0, 0.0, 2.0], [0.5, 0.0, 2.0], [0.0, 0.0, 2.0]]),
)


def test_a_rule_stops_whom_it_may_and_asks_the_others_everything():
  row = stopping.stopped_at(COURSE, 0.8)
  assert row['questions'] == (1 + 2 + 2) / 3
  assert row['stopped'] == 2 / 3
  np.testing.assert_allclose([row['claimed'], row['right'], row['lost']], [0.85, 0.5, 2.5 / 3])


def test_a_level_that_nobody_reaches_asks_everybody_everything():
  row = stopping.stopped_at(COURSE, 0.95)
  assert (row['questions'], row['stopped']) == (2, 0)
  assert np.isnan([row['claimed'], row['right']]).all()


def test_a_fixed_number_is_that_number():
  row = stopping.asked(COURSE, 1)
  assert (row['questions'], row['stopped'], row['right']) == (1, 1, 1 / 3)
  assert stopping.counts(6) == [0, 1, 2, 4]


@pytest.fixture(scope='module')
def exact():
  people = small_population(concentration=0.3, num_support=12, num_held_out=150)
  learner = exact_learner.of_simulation(people.simulation, num_particles=256, capacity=8)
  sure = Sure(learner, learner.init(jax.random.key(0)), chunk_size=1)
  return stopping.table(
    {'bayes': sure},
    people,
    num_people=150,
    num_questions=8,
    levels=(0.7, 0.9),
    key=jax.random.key(1),
  ).set_index(['level', 'questions'])


def test_the_exact_posterior_is_right_as_often_as_it_claims(exact):
  rules = exact[exact.index.get_level_values('level').notna()]
  assert (rules.stopped > 0.2).all()
  assert ((rules.claimed - rules.right).abs() < 1.5 * rules.right_half).all()


def test_more_questions_lose_less_and_fewer_are_asked_at_a_lower_level(exact):
  fixed = exact[exact.index.get_level_values('level').isna()]
  assert fixed.lost.iloc[-1] < fixed.lost.iloc[0]
  assert exact.index.get_level_values('questions')[0] < exact.index.get_level_values('questions')[1]
