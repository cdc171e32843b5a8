import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from metapers.evaluation.bayes import slice_sampling

NUM = 4000


def constant(value):
  return jnp.full(NUM, value, jnp.float32)


def beta_target(first, second):
  return lambda x: first * jax.nn.log_sigmoid(x) + second * jax.nn.log_sigmoid(-x)


def run(x, line, target, num_moves):
  def step(x, key):
    return slice_sampling.move(key, x, line, target), None

  return jax.lax.scan(step, x, jax.random.split(jax.random.key(0), num_moves))[0]


@pytest.mark.parametrize(
  ('first', 'second'), [(0.01, 0.09), (0.05, 0.45), (1.0, 9.0), (10.0, 90.0)]
)
def test_a_line_is_mapped_to_the_unit_interval_and_back(first, second):
  line = slice_sampling.beta_line(constant(first), constant(second))
  v = jnp.linspace(1e-4, 1 - 1e-4, NUM)
  x = slice_sampling.quantile(line, v)
  np.testing.assert_allclose(slice_sampling.distribution(line, x), v, atol=1e-5)
  slope = np.gradient(np.asarray(v), np.asarray(x))[5:-5]
  log_ratio = np.log(slope) - np.asarray(slice_sampling.log_density(line, x))[5:-5]
  assert np.ptp(log_ratio) < 0.1


@pytest.mark.parametrize(
  ('first', 'second'), [(0.01, 0.09), (0.05, 0.45), (1.0, 9.0), (10.0, 90.0)]
)
def test_moves_reach_the_beta_prior_from_anywhere(first, second):
  line = slice_sampling.beta_line(constant(first), constant(second))
  start = jnp.linspace(-3, 3, NUM)
  x = np.asarray(run(start, line, beta_target(constant(first), constant(second)), 60), float)
  # On the logistic scale: t itself rounds to 0 or 1 for most of a small concentration.
  gamma = np.random.default_rng(0)
  draws = [
    np.log(gamma.gamma(a + 1, size=NUM)) + np.log(gamma.random(NUM)) / a for a in (first, second)
  ]
  assert np.asarray(stats.ks_2samp(x, draws[0] - draws[1]))[0] < 0.05


def test_moves_respect_a_hard_constraint():
  first, second = constant(0.05), constant(0.45)
  line = slice_sampling.beta_line(first, second)

  def target(x):
    return jnp.where((x > -1) & (x < 0.5), beta_target(first, second)(x), -jnp.inf)

  x = np.asarray(run(constant(0.4), line, target, 40))
  assert np.all((x > -1) & (x < 0.5))
  ends = stats.beta.cdf([1 / (1 + np.e), 1 / (1 + np.exp(-0.5))], 0.05, 0.45)
  uniform = (stats.beta.cdf(1 / (1 + np.exp(-x)), 0.05, 0.45) - ends[0]) / (ends[1] - ends[0])
  assert np.asarray(stats.kstest(uniform, 'uniform'))[0] < 0.05


def test_a_narrow_slice_is_found_by_shrinking():
  line = slice_sampling.beta_line(constant(1.0), constant(1.0))
  start = constant(0.0)

  def target(x):
    return jnp.where(jnp.abs(x) < 2e-3, 0.0, -jnp.inf)  # a thousandth of the unit interval

  moved = slice_sampling.move(jax.random.key(0), start, line, target)
  assert np.mean(moved != start) > 0.5


def test_a_particle_without_a_better_place_stays():
  line = slice_sampling.beta_line(constant(1.0), constant(1.0))
  start = jnp.linspace(-1, 1, NUM)
  moved = slice_sampling.move(
    jax.random.key(0), start, line, lambda x: jnp.where(x == start, 0.0, -jnp.inf)
  )
  assert np.array_equal(moved, start)
