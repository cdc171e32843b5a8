"""The check of priors: who passes, and what ranks are among."""

import jax
import numpy as np
import pytest

from metapers.analysis import simulation_calibration
from metapers.analysis.simulation_calibration import EVENNESS
from metapers.bench.studies import priors
from metapers.core import meta_learner
from metapers.data import synthetic
from metapers.evaluation.bayes import posterior
from metapers.learners import particle_bank
from metapers.populations import reward_ensemble

USERS = 400


@pytest.fixture(scope='module')
def population():
  table = synthetic.synthetic_store(num_prompts=300)
  return reward_ensemble.reward_ensemble(
    table, concentration=0.05, num_support=2, num_query=2, num_slates=1, num_held_out=USERS
  )


def test_however_many_tests_are_made_one_can_be_wrong():
  wrong = np.zeros(USERS, int)  # the truth below all draws
  for num_tests in (1, 105, 400):
    known = simulation_calibration.bands(USERS, 9, num_tests=num_tests)
    assert simulation_calibration.p_value(wrong, known) < 0.05 / num_tests


def test_turns_of_one_draw_are_left_out_where_asked(population):
  models = population.simulation.user_models
  turned = posterior.draw_bank(models, 10, 3)
  alone = posterior.draw_bank(models, 10, 3, size=50, is_turned=False)
  assert turned.shape == (2, 1, posterior.BANK_SIZE, 10, 10) and alone.shape == (2, 1, 50, 1, 10)
  spread = np.exp(np.asarray(turned))
  entropy = -(spread * np.log(np.maximum(spread, 1e-38))).sum(-1)
  np.testing.assert_allclose(entropy, entropy[..., :1] * np.ones(10), atol=1e-4)


def test_the_exact_posterior_starts_from_independent_draws(population):
  """Among all turns of 26 draws the rank of an entropy is 0 for 1 user in 27, not in 100."""
  ((name, learner, bank, reads),) = priors.exact(population, USERS, 0)
  tasks, truth = priors.users(population, USERS, 0)
  found = simulation_calibration.draw(
    learner, bank, tasks, truth, shots=(0,), chunk_size=1,
    reward_models=population.simulation.reward_models,
  )  # fmt: skip
  assert (name, reads) == (priors.EXACT, True)
  own = found[EVENNESS].draws[0]
  assert min(len(np.unique(row)) for row in own) > 90
  ranks = simulation_calibration.ranks(found[EVENNESS])[0]
  known = simulation_calibration.bands(USERS)
  assert simulation_calibration.p_value(ranks, known) > 0.01


def test_members_of_a_shared_bank_are_drawn_anew_for_every_user(population):
  """A bank of the very prior passes only where users do not all get the same 99 members."""
  tasks, truth = priors.users(population, USERS, 0)
  simulation = population.simulation
  size = simulation_calibration.NUM_SAMPLES
  bank = posterior.draw_bank(simulation.user_models, 10, 5, size=size, is_turned=False)[0]
  params = {'bank': {'heads': np.exp(bank[0, :, 0]), 'log_weights': np.zeros(size, np.float32)}}
  p = {}
  for num_samples in (99, size):
    learner = particle_bank.learner(
      lambda key: params, lambda params, shown: shown.features, num_samples=num_samples
    )
    assert isinstance(learner, meta_learner.MetaLearner) and learner.has_posterior
    found = simulation_calibration.draw(
      learner, jax.tree.map(np.asarray, params), tasks, truth, shots=(0,), chunk_size=50,
      reward_models=simulation.reward_models,
    )  # fmt: skip
    drawn = found[EVENNESS]
    same = all((row == drawn.draws[0, 0]).all() for row in drawn.draws[0, :5])
    assert same == (num_samples == 99)
    ranks = simulation_calibration.ranks(drawn)[0]
    p[num_samples] = simulation_calibration.p_value(ranks, simulation_calibration.bands(USERS))
  assert p[99] < 0.005 < 0.01 < p[size]
