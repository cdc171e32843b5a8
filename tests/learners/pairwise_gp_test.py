import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.distance import cdist
from scipy.special import expit
from sklearn import gaussian_process
from sklearn.gaussian_process import kernels

from metapers import learners
from metapers.core import task
from metapers.core.task import Candidates
from metapers.learners import pairwise_gp

D, N = 3, 8
KEY = jax.random.key(0)
LENGTH, OUTPUT = 0.8, 3.0
SCALES = {'length_scale': LENGTH, 'output_scale': OUTPUT}


def made(**options):
  learner = learners.make('pairwise_gp', **{'num_features': D, 'width': 32} | SCALES | options)
  return learner, learner.init(KEY)


def comparisons(seed=1):
  key_features, key_choice, key_weight = jax.random.split(jax.random.key(seed), 3)
  candidates = Candidates(jax.random.normal(key_features, (N, 2, D)), jnp.ones((N, 2), bool))
  choice = jax.random.randint(key_choice, (N,), 0, 2)
  return task.choices(candidates, choice, weight=1 + jax.random.uniform(key_weight, (N,)))


def rbf(x, y):
  return OUTPUT**2 * np.exp(-cdist(x, y, 'sqeuclidean') / (2 * LENGTH**2 * D))


def of_random_features(width):
  params = made(width=width)[1]
  factors = pairwise_gp.random_factors(D, width, 0)

  def kernel(x, y):
    phi, other = (np.asarray(factors(params, jnp.asarray(each)), np.float64) for each in (x, y))
    return phi @ other.T

  return kernel


def dense(kernel, support, query):
  """P(first of each query), by the Laplace approximation over function values, in float64."""
  x = np.asarray(support.candidates.features, np.float64)
  sign = np.where(np.asarray(support.choice) == 0, 1.0, -1.0)
  weight = np.asarray(support.weight, np.float64)
  q = np.asarray(query.features, np.float64)

  def of_differences(a, b):
    return sum(
      s * t * kernel(a[:, i], b[:, j]) for i, s in enumerate((1, -1)) for j, t in enumerate((1, -1))
    )

  prior, cross = of_differences(x, x), of_differences(q, x)
  values = np.zeros(N)
  for _ in range(200):  # damped Newton on the differences of u
    slope = weight * sign * expit(-sign * values)
    curvature = weight * expit(values) * expit(-values)
    goal = np.linalg.solve(np.eye(N) + prior * curvature, prior @ (curvature * values + slope))
    values = 0.5 * values + 0.5 * goal
  slope = weight * sign * expit(-sign * values)
  root = np.sqrt(weight * expit(values) * expit(-values))
  inner = np.linalg.inv(np.eye(N) + root[:, None] * prior * root)
  reduced = cross * root
  variance = np.diag(of_differences(q, q)) - np.einsum('qn,nm,qm->q', reduced, inner, reduced)
  return expit(cross @ slope / np.sqrt(1 + np.pi * variance / 8))


def predicted(learner, params, support, query):
  state = jax.jit(learner.adapt)(params, support, jnp.zeros(0), KEY)
  return np.exp(jax.jit(learner.predict)(params, state, query))[:, 0]


def test_it_is_the_process_of_its_random_features_to_rounding():
  support, query = comparisons(), comparisons(2).candidates
  expected = dense(of_random_features(32), support, query)
  np.testing.assert_allclose(predicted(*made(), support, query), expected, atol=2e-4)


def test_with_many_random_features_it_is_the_process_of_the_rbf_kernel():
  support, query = comparisons(), comparisons(2).candidates
  expected = dense(rbf, support, query)
  found = predicted(*made(width=1024), support, query)
  assert np.abs(expected - 0.5).max() > 0.2
  np.testing.assert_allclose(found, expected, atol=0.04)


@pytest.mark.parametrize('width', [256, 4096])
def test_random_features_have_the_kernel_to_the_root_of_their_number(width):
  x = np.asarray(jax.random.normal(KEY, (40, D)))
  error = (of_random_features(width)(x, x) - rbf(x, x)) / OUTPUT**2
  assert np.sqrt(np.mean(error**2)) < 2 / np.sqrt(width)  # one draw of frequencies
  np.testing.assert_allclose(np.diag(error), 0, atol=1e-5)


def test_the_linear_kernel_is_the_answer_of_scikit_learn():
  learner, params = made(kernel='linear')
  support, query = comparisons(), comparisons(2).candidates
  support = support._replace(weight=jnp.ones(N))
  x, q = (np.asarray(each[:, 0] - each[:, 1]) for each in (support.candidates.features, query[0]))
  kernel = kernels.ConstantKernel(OUTPUT**2 / D, 'fixed') * kernels.DotProduct(0.0, 'fixed')
  model = gaussian_process.GaussianProcessClassifier(kernel, max_iter_predict=500)
  mean, variance = model.fit(x, np.asarray(support.choice) == 0).latent_mean_and_variance(q)
  state = jax.jit(learner.adapt)(params, support, jnp.zeros(0), KEY)
  scores = learner.score(params, state, query)
  np.testing.assert_allclose(scores[:, 0] - scores[:, 1], mean, atol=2e-3)
  contrast = OUTPUT / np.sqrt(D) * q
  made_variance = np.einsum('nd,de,ne->n', contrast, state.covariance, contrast)
  np.testing.assert_allclose(made_variance, variance, rtol=2e-3)


def test_without_comparisons_nothing_is_preferred():
  support, query = task.with_shots(comparisons(), 0), comparisons(2).candidates
  for kernel in pairwise_gp.KERNELS:
    found = predicted(*made(kernel=kernel), support, query)
    np.testing.assert_allclose(found, 0.5, atol=1e-6)


@pytest.mark.parametrize('kernel', pairwise_gp.KERNELS)
def test_scales_are_all_that_is_learned_and_may_be_held(kernel):
  given = task.Task(comparisons(), comparisons(2), jnp.asarray(0), jnp.zeros(0))
  for learn_scales in (True, False):
    learner, params = made(kernel=kernel, learn_scales=learn_scales)
    loss = functools.partial(lambda loss, p: loss(p, given, KEY)[0], learner.loss)
    gradient = jax.jit(jax.grad(loss))(params)
    assert len(gradient) == (2 if kernel == 'rbf' else 1)
    assert all((slope != 0) == learn_scales for slope in gradient.values())


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    ({'kernel': 'matern'}, "one of rbf, linear, got 'matern'"),
    ({'width': 33}, 'width must be even'),
    ({'length_scale': 0.0}, 'length_scale must be positive'),
    ({'output_scale': -1.0}, 'output_scale must be positive'),
    ({'inner_steps': 0}, 'inner_steps must be at least 1'),
  ],
)
def test_impossible_options_are_refused(options, message):
  with pytest.raises(ValueError, match=message):
    made(**options)
