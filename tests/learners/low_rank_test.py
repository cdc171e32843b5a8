import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize

from metapers import learners
from metapers.core import task
from metapers.core.task import Candidates

RANK = 3


def made(prior_strength=0.5):
  learner = learners.make(
    'low_rank',
    num_features=4,
    num_users=5,
    rank=RANK,
    inner_steps=400,
    prior_strength=prior_strength,
  )
  return learner, learner.init(jax.random.key(0))


def support(num_comparisons=12):
  features = jax.random.normal(jax.random.key(1), (num_comparisons, 2, 4))
  mask = jnp.ones((num_comparisons, 2), bool)
  return task.choices(Candidates(features, mask), jnp.zeros(num_comparisons, jnp.int32), mask[:, 0])


def test_refit_solves_the_convex_problem():
  learner, params = made()
  comparisons = support()
  found = learner.adapt(params, comparisons, jnp.zeros(0), jax.random.key(0))
  basis = np.asarray(comparisons.candidates.features @ params['basis']['linear']['kernel'])
  contrast = basis[:, 0] - basis[:, 1]
  mean = np.asarray(jax.nn.softmax(params['table']).mean(0))

  def energy(weights):
    nll = np.logaddexp(0, -contrast @ weights).sum()
    return nll + 0.5 * np.sum(weights * np.log(weights / mean))

  solved = optimize.minimize(
    energy, mean, bounds=[(1e-9, 1)] * RANK,
    constraints={'type': 'eq', 'fun': lambda w: w.sum() - 1}, options={'ftol': 1e-12},
  )  # fmt: skip
  np.testing.assert_allclose(found, solved.x, atol=1e-3)


def test_without_comparisons_a_new_user_is_the_mean_of_known_users():
  learner, params = made()
  none = task.with_shots(support(), 0)
  found = learner.adapt(params, none, jnp.zeros(0), jax.random.key(0))
  np.testing.assert_allclose(found, jax.nn.softmax(params['table']).mean(0), rtol=1e-4)


def test_an_endless_population_is_refused():
  with pytest.raises(ValueError, match='low_rank fits a table of known users'):
    learners.make('low_rank', num_features=4, num_users=0)
