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


@pytest.mark.parametrize('scale', [1.0, 10.0, 40.0])
def test_refit_converges_however_sharp_the_scores_are(scale):
  sizes = {'num_features': 4, 'num_users': 5, 'rank': RANK}
  learner = learners.make('low_rank', **sizes)
  params = learner.init(jax.random.key(0)) | {'log_scale': jnp.log(scale)}
  comparisons = support(64)
  basis = scale * comparisons.candidates.features @ params['basis']['linear']['kernel']
  wrong = jnp.arange(64) % 7 == 0
  favourite = jnp.argmax(basis @ jnp.array([0.7, 0.2, 0.1]), -1).astype(jnp.int32)
  comparisons = comparisons._replace(choice=jnp.where(wrong, 1 - favourite, favourite))
  mean = np.asarray(jax.nn.softmax(params['table']).mean(0), float)
  sign = np.where(np.asarray(comparisons.choice) == 0, 1, -1)
  contrast = np.asarray(basis[:, 0] - basis[:, 1], float) * sign[:, None]

  def energy(weights):
    return np.logaddexp(0, -contrast @ weights).sum() + weights @ np.log(weights / mean)

  found = np.asarray(learner.adapt(params, comparisons, jnp.zeros(0), jax.random.key(0)), float)
  best = min(
    energy(np.exp(x) / np.exp(x).sum())
    for x in (
      optimize.minimize(
        lambda x: energy(np.exp(x) / np.exp(x).sum()), np.log(begin), method='Nelder-Mead',
        options={'maxiter': 4000, 'xatol': 1e-8, 'fatol': 1e-8},
      ).x
      for begin in (mean, np.array([0.7, 0.2, 0.1]))
    )
  )  # fmt: skip
  assert energy(found) - best < 0.05 * max(1, best / 64)


def test_a_step_is_divided_by_what_comparisons_weigh_and_not_by_their_places():
  sizes = {'num_features': 4, 'num_users': 5, 'rank': RANK}
  learner = learners.make('low_rank', **sizes, inner_steps=1, prior_strength=0.5)
  params = learner.init(jax.random.key(0))
  given = support(3)._replace(weight=jnp.array([1.0, 2.0, 0.5]))
  basis = given.candidates.features @ params['basis']['linear']['kernel']
  mean = jax.nn.softmax(params['table']).mean(0)

  def nll(weights):
    log_p = jax.nn.log_softmax(basis @ weights)[:, 0]
    return -given.weight @ log_p

  expected = jax.nn.softmax(jnp.log(mean) - 0.5 / (0.5 + 3.5) * jax.grad(nll)(mean))
  for comparisons in (given, task.pad_to(given, 9)):
    found = learner.adapt(params, comparisons, jnp.zeros(0), jax.random.key(0))
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_without_comparisons_a_new_user_is_the_mean_of_known_users():
  learner, params = made()
  none = task.with_shots(support(), 0)
  found = learner.adapt(params, none, jnp.zeros(0), jax.random.key(0))
  np.testing.assert_allclose(found, jax.nn.softmax(params['table']).mean(0), rtol=1e-4)


def test_an_endless_population_is_refused():
  with pytest.raises(ValueError, match='low_rank fits a table of known users'):
    learners.make('low_rank', num_features=4, num_users=0)


@pytest.mark.parametrize('name', ['low_rank', 'pal'])
def test_a_basis_that_no_known_user_wants_does_not_stop_the_others(name):
  width = {'rank': RANK} if name == 'low_rank' else {'num_prototypes': RANK}
  learner = learners.make(name, num_features=4, num_users=5, **width)
  params = learner.init(jax.random.key(0))

  def weights(logit):
    unwanted = params | {'table': params['table'].at[:, -1].set(logit)}
    return learner.adapt(unwanted, support(), jnp.zeros(0), jax.random.key(0))

  np.testing.assert_allclose(weights(-200.0), weights(-60.0), atol=1e-5)
