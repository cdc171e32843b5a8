import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import linalg, optimize

from metapers import learners
from metapers.core import task
from metapers.core.task import Candidates, Task

D = 3
MEAN = np.array([1.0, -0.5, 0.0])
ROOT = np.array([[1.5, 0.0, 0.0], [0.8, 0.6, 0.0], [0.0, 0.0, 0.2]])


def people(num_users=300, num_comparisons=60, seed=0, copies=1):
  """Tasks of users with Gaussian weights, and their contrasts (chosen minus other) [U, N, D].

  With `copies` each feature stands there so often.
  """
  rng = np.random.default_rng(seed)
  weights = MEAN + rng.normal(size=(num_users, D)) @ ROOT.T
  features = rng.normal(size=(num_users, num_comparisons, 2, D)).astype(np.float32)
  gap = np.einsum('und,ud->un', features[:, :, 0] - features[:, :, 1], weights)
  choice = (rng.uniform(size=gap.shape) > 1 / (1 + np.exp(-gap))).astype(np.int32)
  mask = np.ones(features.shape[:3], bool)
  shown = np.tile(features, copies)
  given = jax.vmap(task.choices)(
    *jax.tree.map(jnp.asarray, (Candidates(shown, mask), choice, mask[..., 0]))
  )
  empty = jax.tree.map(lambda x: x[:, :0], given)
  users = jnp.arange(num_users, dtype=jnp.int32)
  sign = 1 - 2 * choice[..., None]
  contrasts = sign * (features[:, :, 0] - features[:, :, 1])
  return Task(given, empty, users, jnp.zeros((num_users, 0))), contrasts


def prepared(tasks, num_features=D, **options):
  learner = learners.make('gaussian_prior', num_features=num_features, **options)
  key = jax.random.key(0)
  return learner, jax.device_get(learner.prepare(learner.init(key), tasks, key))


def test_mean_and_covariance_of_made_up_people_are_found():
  tasks, _ = people()
  _, prior = prepared(tasks)
  np.testing.assert_allclose(prior['mean'], MEAN, atol=0.25)
  found, true = prior['root'] @ prior['root'].T, ROOT @ ROOT.T
  # Laplace shrinks variances of sure people: modes lie nearer to the mean than posterior means.
  np.testing.assert_allclose(np.diag(found), np.diag(true), rtol=0.35)
  correlation = found[0, 1] / np.sqrt(found[0, 0] * found[1, 1])
  np.testing.assert_allclose(correlation, true[0, 1] / np.sqrt(true[0, 0] * true[1, 1]), atol=0.1)


@pytest.mark.parametrize('num_comparisons', [2, 9])  # by contrasts, by features
@pytest.mark.parametrize('num_iterations', [1, 12])
def test_updates_are_those_of_modes_and_hessians_of_another_library(
  num_iterations, num_comparisons
):
  tasks, contrasts = people(num_users=6, num_comparisons=num_comparisons)
  strength = 2.0
  _, prior = prepared(
    tasks, num_iterations=num_iterations, inner_steps=20, num_pseudo_users=strength
  )
  mean, covariance = np.zeros(D), np.eye(D)
  for _ in range(num_iterations):
    modes, inner = posteriors(contrasts, mean, covariance)
    precision = np.linalg.inv(covariance)
    slopes = (modes - mean) @ precision
    information = len(modes) * precision - precision @ inner.sum(0) @ precision
    mean = mean + np.linalg.solve(
      information + strength * np.eye(D), slopes.sum(0) - strength * mean
    )
    b = information + strength * precision
    a = covariance @ slopes.T @ slopes @ covariance + strength * np.eye(D)
    half = linalg.sqrtm(b)
    covariance = np.linalg.solve(half, np.linalg.solve(half, linalg.sqrtm(half @ a @ half)).T)
  np.testing.assert_allclose(prior['mean'], mean, atol=1e-3)
  np.testing.assert_allclose(prior['root'] @ prior['root'].T, covariance, rtol=2e-3, atol=1e-3)


def test_em_would_not_move_what_is_found():
  tasks, contrasts = people(num_users=40, num_comparisons=20)
  _, prior = prepared(tasks, num_iterations=150, inner_steps=20)
  mean, covariance = prior['mean'].astype(np.float64), prior['root'] @ prior['root'].T
  modes, inner = posteriors(contrasts, mean, covariance)
  away = modes - mean
  again = (np.eye(D) + inner.sum(0) + away.T @ away) / (1 + len(modes))
  np.testing.assert_allclose(again, covariance, rtol=0.01, atol=0.005)
  np.testing.assert_allclose(np.linalg.solve(covariance, away.sum(0)), mean, atol=0.02)


def test_items_that_few_people_saw_are_learned():
  """People agree on 80 items, of which each person compares four pairs: EM would hardly move."""
  num_users, num_items = 600, 80
  rng = np.random.default_rng(0)
  utility = 2 * rng.normal(size=num_items)
  first = rng.integers(0, num_items, (num_users, 4))
  pairs = np.stack([first, (first + rng.integers(1, num_items, first.shape)) % num_items], -1)
  gap = utility[pairs[..., 0]] - utility[pairs[..., 1]]
  choice = (rng.uniform(size=gap.shape) > 1 / (1 + np.exp(-gap))).astype(np.int32)
  mask = np.ones(pairs.shape, bool)
  given = jax.vmap(task.choices)(
    *jax.tree.map(
      jnp.asarray, (Candidates(np.eye(num_items, dtype=np.float32)[pairs], mask), choice)
    )
  )
  empty = jax.tree.map(lambda x: x[:, :0], given)
  users = jnp.arange(num_users, dtype=jnp.int32)
  tasks = Task(given, empty, users, jnp.zeros((num_users, 0)))
  learner = learners.make('gaussian_prior', num_features=num_items)
  key = jax.random.key(0)
  prior = jax.jit(learner.prepare)(learner.init(key), tasks, key)
  spread = prior['mean'] - prior['mean'].mean()
  assert np.corrcoef(spread, utility)[0, 1] > 0.9
  assert 0.7 < np.std(spread) / np.std(utility) < 1.3  # EM: .20
  assert np.diag(prior['root'] @ prior['root'].T).mean() < 0.6  # of 1 at first; EM: .87


def posteriors(contrasts, mean, covariance):
  """Modes [U, D] and covariances [U, D, D] of all users."""
  found = [laplace(rows, mean, covariance) for rows in contrasts.astype(np.float64)]
  return tuple(np.array(each) for each in zip(*found, strict=True))


def laplace(rows, mean, covariance):
  """Mode and covariance of one user's weights under N(mean, covariance), by scipy."""
  precision = np.linalg.inv(covariance)

  def energy(w):
    return np.logaddexp(0, -rows @ w).sum() + 0.5 * (w - mean) @ precision @ (w - mean)

  mode = optimize.minimize(energy, mean, tol=1e-12).x
  p = 1 / (1 + np.exp(-rows @ mode))
  return mode, np.linalg.inv(precision + (rows.T * (p * (1 - p))) @ rows)


def test_fewer_people_than_features_leave_a_proper_prior():
  tasks, _ = people(num_users=2, num_comparisons=5)
  _, prior = prepared(tasks)
  assert (np.linalg.eigvalsh(prior['root'] @ prior['root'].T) > 0.01).all()


@pytest.mark.parametrize('num_comparisons', [4, 20])  # by contrasts, by features
def test_copies_of_features_share_mean_and_variance(num_comparisons):
  """Of what only tells copies apart users say nothing, which float32 rounds to less than that."""
  tasks, _ = people(num_comparisons=num_comparisons, copies=2)
  _, prior = prepared(tasks, 2 * D, num_pseudo_users=0.01)
  covariance = prior['root'] @ prior['root'].T
  np.testing.assert_allclose(prior['mean'][:D], prior['mean'][D:], atol=0.05)
  np.testing.assert_allclose(covariance[:D, :D], covariance[D:, D:], atol=0.05)
  assert (np.diag(covariance) < 2).all()


def test_histories_of_nobody_are_refused():
  tasks, _ = people(num_users=1)
  with pytest.raises(ValueError, match='no users'):
    prepared(jax.tree.map(lambda x: x[:0], tasks))


def test_parameters_that_were_there_before_do_not_matter():
  tasks, _ = people(num_users=8)
  learner, prior = prepared(tasks)
  again = learner.prepare(prior, tasks, jax.random.key(0))
  jax.tree.map(np.testing.assert_array_equal, again, prior)


def test_a_prior_of_nobody_is_refused():
  with pytest.raises(ValueError, match='num_pseudo_users'):
    learners.make('gaussian_prior', num_features=D, num_pseudo_users=0.0)
