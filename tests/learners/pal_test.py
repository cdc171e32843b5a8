import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize

from metapers import learners
from metapers.core import task
from metapers.core.task import Candidates
from metapers.learners import pal

D, U, K, H = 4, 5, 3, 3
KEY = jax.random.key(0)


def made(**options):
  sizes = {
    'num_features': D,
    'num_users': U,
    'width': H,
    'num_prototypes': K,
    'distance': 'squared',
  }
  learner = learners.make('pal', **sizes | {'inner_steps': 400, 'prior_strength': 0.5} | options)
  return learner, learner.init(KEY)


def support(num_comparisons=8):
  features = jax.random.normal(jax.random.key(1), (num_comparisons, 2, D))
  mask = jnp.ones((num_comparisons, 2), bool)
  return task.choices(Candidates(features, mask), jnp.zeros(num_comparisons, jnp.int32))


def reference_scores(params, weights, x, distance):
  """Straight from the formula, in float64."""
  params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)
  points = np.asarray(x, np.float64) @ params['projector']['linear']['kernel']
  ideal = np.asarray(weights, np.float64) @ params['prototypes']
  if distance == 'angle':
    sizes = np.linalg.norm(points, axis=-1) * np.linalg.norm(ideal)
    return np.exp(params['log_scale']) * (points @ ideal) / sizes
  return -np.exp(params['log_scale']) * ((points - ideal) ** 2).sum(-1)


@pytest.mark.parametrize('distance', pal.DISTANCES)
def test_utilities_are_near_to_the_mixture_of_prototypes(distance):
  learner, params = made(distance=distance)
  params['log_scale'] = jnp.asarray(0.7)
  weights, candidates = jnp.array([0.2, 0.5, 0.3]), support().candidates
  expected = reference_scores(params, weights, candidates.features, distance)
  np.testing.assert_allclose(learner.score(params, weights, candidates), expected, rtol=1e-4)


def test_the_angle_does_not_see_how_far_a_candidate_is():
  learner, params = made(distance='angle')
  weights, candidates = jnp.array([0.2, 0.5, 0.3]), support().candidates
  far = candidates._replace(features=7 * candidates.features)
  scores = [learner.score(params, weights, each) for each in (candidates, far)]
  np.testing.assert_allclose(*scores, rtol=1e-4)


def test_the_scale_is_at_most_a_hundred():
  learner, params = made()
  weights, candidates = jnp.array([0.2, 0.5, 0.3]), support().candidates
  at_most, more = (
    learner.score(params | {'log_scale': jnp.log(s)}, weights, candidates) for s in (100.0, 1e4)
  )
  np.testing.assert_allclose(at_most, more, rtol=1e-5)


def test_the_refit_minimises_the_penalised_likelihood():
  learner, params = made()  # convex: of ‖f - a‖² choices only see what is linear in the weights
  comparisons = support()
  found = learner.adapt(params, comparisons, jnp.zeros(0), KEY)
  mean = np.asarray(jax.nn.softmax(params['table']).mean(0), np.float64)

  def energy(weights):
    made = reference_scores(params, weights, comparisons.candidates.features, 'squared')
    nll = np.logaddexp(0, made[:, 1] - made[:, 0]).sum()  # the first is chosen
    return nll + 0.5 * np.sum(weights * np.log(weights / mean))

  solved = optimize.minimize(
    energy, mean, bounds=[(1e-9, 1)] * K,
    constraints={'type': 'eq', 'fun': lambda w: w.sum() - 1}, options={'ftol': 1e-12},
  )  # fmt: skip
  assert np.abs(np.asarray(found) - mean).max() > 0.05
  np.testing.assert_allclose(found, solved.x, atol=2e-3)


def test_one_prototype_is_one_utility_for_everyone():
  learner, params = made(num_prototypes=1)
  some, none = (
    learner.adapt(params, task.with_shots(support(), n), jnp.zeros(0), KEY) for n in (8, 0)
  )
  np.testing.assert_allclose(some, none)
  np.testing.assert_allclose(some, [1.0])


def test_known_users_are_scored_by_their_row():
  learner, params = made()
  none = task.with_shots(support(), 0)
  given = task.Task(none, support(), jnp.asarray(3), jnp.zeros(0))
  expected = reference_scores(
    params, jax.nn.softmax(params['table'][3]), support().candidates.features, 'squared'
  )
  nll = np.logaddexp(0, expected[:, 1] - expected[:, 0]).mean()
  np.testing.assert_allclose(learner.loss(params, given, KEY)[0], nll, rtol=1e-4)


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    ({'distance': 'cosine'}, "one of angle, squared, got 'cosine'"),
    ({'num_users': 0}, 'pal fits a table of known users'),
    ({'num_prototypes': 0}, 'num_prototypes must be at least 1, got 0'),
    ({'inner_steps': 0}, 'inner_steps must be at least 1'),
    ({'inner_learning_rate': 1.0}, 'inner_learning_rate must lie between 0 and 1'),
  ],
)
def test_impossible_options_are_refused(options, message):
  with pytest.raises(ValueError, match=message):
    made(**options)
