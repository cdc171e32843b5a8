"""Rules of abstention on simulated people of whom the exact posterior is known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_store import small_population

from metapers.bench import abstaining, simulated_checks
from metapers.bench.stopping import Sure
from metapers.core.population import UserModel
from metapers.evaluation import adaptation
from metapers.evaluation.bayes import exact_learner

SHOTS = (0, 4)


def episodes(num_users, **options):
  people = small_population(
    concentration=0.3, num_support=4, num_slates=0, num_held_out=num_users, **options
  )
  return people, adaptation.episodes(people, split='test', num_users=num_users)[0]


@pytest.fixture(scope='module')
def found():
  people, tasks = episodes(900)
  learner = exact_learner.of_simulation(people.simulation, num_particles=64, capacity=4)
  sure = Sure(learner, learner.init(jax.random.key(0)), chunk_size=1)
  made = abstaining.table(
    {'bayes': sure},
    tasks,
    {'noisy': episodes(400, flip_rate=0.25)[1]},
    num_calibration=500,
    shots=SHOTS,
    key=jax.random.key(1),
  )
  return made.set_index(['learner', 'people', 'shots'])


def test_answers_are_right_as_often_as_claimed_of_people_like_those_of_calibration(found):
  known = found.loc['bayes', '']
  assert (known.claimed == 0.9).all() and (known.answered > 0.02).all()
  assert (known.right + known.right_half > 0.9).all()


def test_more_is_answered_of_people_of_whom_more_is_known(found):
  known = found.loc['bayes', ''].answered
  assert known[4] > known[0] + 0.1


def test_of_noisier_people_nothing_is_claimed_and_less_is_right(found):
  noisy = found.loc['bayes', 'noisy']
  assert noisy.claimed.isna().all()
  assert (noisy.right + noisy.right_half < 0.9).all()


def test_a_blind_learner_is_that_of_fewer_features():
  _, tasks = episodes(3)
  learner = exact_learner.exact_learner(2, [UserModel(0.3)], num_particles=32, capacity=4)
  params = learner.init(jax.random.key(0))
  shown = (part.candidates for part in (tasks.support, tasks.query))
  left = [each._replace(features=jnp.delete(each.features, 1, -1)) for each in shown]
  fewer = tasks._replace(
    support=tasks.support._replace(candidates=left[0]),
    query=tasks.query._replace(candidates=left[1]),
  )
  key = jax.random.key(0)
  wanted = adaptation.evaluate(learner, params, fewer, shots=SHOTS, key=key)
  got = adaptation.evaluate(abstaining.blind(learner, 1), params, tasks, shots=SHOTS, key=key)
  np.testing.assert_array_equal(got.log_probs, wanted.log_probs)


def test_too_few_people_are_refused_before_anything_is_drawn():
  with pytest.raises(ValueError, match=r'1000 people calibrate, .* got 1000'):
    next(simulated_checks.abstains(1000))
