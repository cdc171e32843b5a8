import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, optimize

from metapers.core import task
from metapers.core.task import Candidates
from metapers.learners import expectation_propagation, linear_head

KEY = jax.random.key(0)


def problem(width, num_comparisons, scale=3.0, seed=0):
  """Offset, factors and comparisons of one user, the last two of which are masked."""
  rng = np.random.default_rng(seed)
  factors = scale * rng.normal(size=(num_comparisons + 2, 2, width)).astype(np.float32)
  offset = rng.normal(size=factors.shape[:2]).astype(np.float32)
  choice = (factors @ np.ones(width) + offset).argmax(-1).astype(np.int32)
  given = task.choices(
    *jax.tree.map(jnp.asarray, (Candidates(factors, np.ones(factors.shape[:2], bool)), choice))
  )
  return jnp.asarray(offset), jnp.asarray(factors), task.with_shots(given, num_comparisons)


def infer(offset, factors, given, infer=expectation_propagation.approximate, num_steps=40):
  return infer(offset, factors, given, KEY, num_steps=num_steps, num_samples=2)


def brute_force(offset, factors, given, half_width=8.0, size=801):
  """Exact mean and covariance of v on a grid, by float64 sums."""
  width = factors.shape[-1]
  axis = np.linspace(-half_width, half_width, size)
  grid = np.stack(np.meshgrid(*[axis] * width, indexing='ij'), -1).reshape(-1, width)
  log_p = -0.5 * np.sum(grid**2, -1)
  for n in np.flatnonzero(given.mask):
    u = np.float64(offset[n]) + grid @ np.float64(factors[n]).T
    gap = u[:, given.choice[n]] - u[:, 1 - given.choice[n]]
    log_p -= float(given.weight[n]) * np.logaddexp(0, -gap)
  p = np.exp(log_p - log_p.max())
  p /= p.sum()
  mean = p @ grid
  return mean, (grid - mean).T @ (p[:, None] * (grid - mean))


@pytest.mark.parametrize('width', [1, 2])
def test_moments_are_those_of_brute_force_and_nearer_than_those_of_laplace(width):
  given = problem(width, num_comparisons=4)
  mean, covariance = brute_force(*given)
  found, laplace = infer(*given), infer(*given, infer=linear_head.laplace)
  np.testing.assert_allclose(found.mean, mean, atol=0.02)
  np.testing.assert_allclose(found.covariance, covariance, atol=0.03)
  assert np.linalg.norm(found.mean - mean) < 0.1 * np.linalg.norm(laplace.mean - mean)


@pytest.mark.parametrize('num_answers', [64, 256])
@pytest.mark.parametrize('gap', [4.0, 20.0])
def test_one_question_answered_many_times_does_not_diverge(num_answers, gap):
  factors = np.zeros((num_answers, 2, 1), np.float32)
  factors[:, 0] = gap
  choice = (np.arange(num_answers) % 4 == 0).astype(np.int32)  # three of four for the first
  mask = np.ones(factors.shape[:2], bool)
  given = task.choices(*jax.tree.map(jnp.asarray, (Candidates(factors, mask), choice)))
  found = infer(jnp.zeros(mask.shape), jnp.asarray(factors), given)
  mean, covariance = brute_force(np.zeros(mask.shape), factors, given, half_width=2.0, size=40_001)
  np.testing.assert_allclose(found.mean, mean, rtol=0.02)
  np.testing.assert_allclose(found.covariance, covariance, rtol=0.05)


def test_one_comparison_is_inferred_exactly():
  given = problem(width=1, num_comparisons=1, scale=8.0)
  mean, covariance = brute_force(*given)
  found = infer(*given)
  np.testing.assert_allclose(found.mean, mean, atol=1e-3)
  np.testing.assert_allclose(found.covariance, covariance, atol=1e-3)


@pytest.mark.parametrize('mean', [-30.0, -2.0, 0.0, 5.0])
@pytest.mark.parametrize('variance', [0.01, 1.0, 100.0])
@pytest.mark.parametrize('power', [0.3, 1.0])
def test_moments_of_one_gap_are_those_of_another_library(mean, variance, power):
  def log_density(f):
    return -power * np.logaddexp(0, -f) - 0.5 * (f - mean) ** 2 / variance

  mode = optimize.minimize_scalar(lambda f: -log_density(f), bracket=(mean, mean + 1)).x
  ends = mode - 9 * variance**0.5, mode + 9 * variance**0.5

  def moment(order):
    def integrand(f):
      return f**order * np.exp(log_density(f) - log_density(mode))

    return integrate.quad(integrand, *ends, points=[mode], limit=400)[0]

  total, first, second = map(moment, range(3))
  expected = first / total, second / total - (first / total) ** 2
  found = expectation_propagation.tilted_moments(*(jnp.full(1, x) for x in (mean, variance, power)))
  np.testing.assert_allclose(found[0][0], expected[0], rtol=1e-4, atol=1e-3)
  np.testing.assert_allclose(found[1][0], expected[1], rtol=1e-3)


def test_weight_two_is_the_comparison_twice_and_weight_0_none():
  offset, factors, given = problem(width=2, num_comparisons=4)
  weighted = given._replace(weight=jnp.array([2.0, 1.0, 0.0, 1.0, 1.0, 1.0]))
  rows = jnp.array([0, 0, 1, 3])
  repeated = jax.tree.map(lambda x: x[rows], (offset, factors, given))
  found, expected = infer(offset, factors, weighted), infer(*repeated)
  np.testing.assert_allclose(found.mean, expected.mean, atol=1e-5)
  np.testing.assert_allclose(found.covariance, expected.covariance, atol=1e-5)


def test_half_a_weight_is_half_of_the_log_likelihood():
  offset, factors, given = problem(width=1, num_comparisons=3)
  given = given._replace(weight=jnp.full(5, 0.5))
  mean, covariance = brute_force(offset, factors, given)
  found = infer(offset, factors, given)
  np.testing.assert_allclose(found.mean, mean, atol=0.02)
  np.testing.assert_allclose(found.covariance, covariance, atol=0.03)


def test_no_comparison_leaves_the_prior():
  offset, factors, given = problem(width=2, num_comparisons=3)
  found = infer(offset, factors, task.with_shots(given, 0))
  np.testing.assert_allclose(found.mean, np.zeros(2), atol=1e-6)
  np.testing.assert_allclose(found.covariance, np.eye(2), atol=1e-6)


def test_more_than_two_candidates_are_refused():
  offset, factors, given = problem(width=2, num_comparisons=3)
  with pytest.raises(ValueError, match="got 3 candidates: choose inference='laplace'"):
    infer(*(jnp.concatenate([x, x[:, :1]], 1) for x in (offset, factors)), given)


@pytest.mark.parametrize('num_comparisons', [0, 2, 4])
def test_gradients_with_masked_comparisons_are_those_of_finite_differences(num_comparisons):
  offset, factors, given = problem(2, num_comparisons)

  def value(scale):
    found = infer(offset, scale * factors, given)
    return found.mean.sum() + found.covariance.sum()

  slope = jax.grad(value)(1.0)
  numeric = (value(1.01) - value(0.99)) / 0.02
  np.testing.assert_allclose(slope, numeric, rtol=1e-2, atol=1e-3)
