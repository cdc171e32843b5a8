import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads
from scipy import optimize, special

from metapers.core import task
from metapers.core.task import Candidates
from metapers.learners import dual_newton, newton

WIDTH = 2


def problem(num_candidates):
  """Returns offset, factors and weighted comparisons, of which the last two are masked."""
  keys = jax.random.split(jax.random.key(0), 4)
  shape = (6, num_candidates)
  offset, factors = jax.random.normal(keys[0], shape), jax.random.normal(keys[1], (*shape, WIDTH))
  choice = jax.random.randint(keys[2], (6,), 0, num_candidates)
  weight = jax.random.uniform(keys[3], (6,), maxval=3.0)
  comparisons = task.choices(Candidates(factors, jnp.ones(shape, bool)), choice, weight=weight)
  return offset, 3 * factors, task.with_shots(comparisons, 4)


def test_weighted_contrasts_give_the_hessian():
  given = problem(num_candidates=3)
  v = jnp.array([0.3, -0.7])
  contrasts = newton.weighted_contrasts(v, *given)
  expected = jax.hessian(newton.objective)(v, *given)
  np.testing.assert_allclose(
    np.eye(WIDTH) + contrasts.T @ contrasts, expected, rtol=1e-4, atol=1e-5
  )


@pytest.mark.parametrize('shape', [(3, 7), (7, 3)])
def test_both_gram_matrices_give_the_same_solution(shape):
  contrasts = jax.random.normal(jax.random.key(0), shape)
  b = jax.random.normal(jax.random.key(1), shape[1:])
  expected = np.linalg.solve(np.eye(shape[1]) + contrasts.T @ contrasts, b)
  np.testing.assert_allclose(newton.solve(contrasts, b), expected, rtol=1e-4, atol=1e-5)
  np.testing.assert_allclose(newton.inverse(contrasts) @ b, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('function', [newton.inverse, newton.solve])
@pytest.mark.parametrize('shape', [(3, 7), (7, 3)])
def test_derivatives_are_finite_differences(function, shape):
  with jax.enable_x64(True):
    rng = np.random.default_rng(0)
    contrasts = jnp.asarray(rng.normal(size=shape))
    given = () if function is newton.inverse else (jnp.asarray(rng.normal(size=shape[1:])),)
    check_grads(
      lambda *x: function(*map(jnp.asarray, x)),
      (contrasts, *given),
      order=2,
      modes=['rev'],
      rtol=1e-5,
    )


@pytest.mark.parametrize(('width', 'scale', 'count'), [(50, 30.0, 8), (256, 3.0, 64), (9, 1e4, 9)])
def test_questions_answered_both_ways_leave_a_proper_covariance(width, scale, count):
  contrasts = scale * np.random.default_rng(0).normal(size=(4, width)).astype(np.float32)
  repeated = jnp.asarray(0.5 * np.repeat(contrasts, count, 0))
  found = np.asarray(newton.inverse(repeated), np.float64)
  exact = np.linalg.inv(np.eye(width) + np.asarray(repeated.T @ repeated, np.float64))
  variances, expected = (np.einsum('nh,hg,ng->n', contrasts, c, contrasts) for c in (found, exact))
  assert np.linalg.eigvalsh(found).min() > -1e-6
  if scale < 100:
    np.testing.assert_allclose(variances, expected, rtol=0.2)


def far(num_comparisons, width, scale, offset_scale):
  """Returns comparisons whose utilities are hundreds of logits apart, often the wrong way."""
  rng = np.random.default_rng(num_comparisons)
  shape = (num_comparisons, 2)
  factors = jnp.asarray(scale * rng.normal(size=(*shape, width)), jnp.float32)
  offset = jnp.asarray(offset_scale * rng.normal(size=shape), jnp.float32)
  choice = jnp.asarray(rng.integers(2, size=num_comparisons))
  return offset, factors, task.choices(Candidates(factors, jnp.ones(shape, bool)), choice)


@pytest.mark.parametrize('sizes', [(4, 10, 40.0, 80.0), (16, 384, 3.0, 10.0)])
def test_the_mode_is_found_from_far_away(sizes):
  given = far(*sizes)
  offset, factors, support = (jax.tree.map(np.asarray, each) for each in given)
  best = support.choice[:, None]
  contrasts = np.take_along_axis(factors, best[..., None], 1) - np.take_along_axis(
    factors, 1 - best[..., None], 1
  )
  gaps = np.take_along_axis(offset, best, 1) - np.take_along_axis(offset, 1 - best, 1)
  x, g = contrasts[:, 0].astype(np.float64), gaps[:, 0].astype(np.float64)

  def energy(v):
    return np.logaddexp(0, -(g + x @ v)).sum() + 0.5 * v @ v

  def slope(v):
    return -x.T @ special.expit(-(g + x @ v)) + v

  solved = optimize.minimize(energy, np.zeros(x.shape[1]), jac=slope, options={'maxiter': 2000})
  evidence = dual_newton.laplace(*given, num_steps=8)
  for found in (newton.mode(*given, num_steps=8), evidence.contrasts.T @ evidence.mode):
    assert energy(np.asarray(found, np.float64)) < solved.fun + 0.5


def test_a_last_step_that_raises_the_energy_is_not_taken():
  given = far(16, 10, 40.0, 80.0)
  v = newton.mode(*given, num_steps=1)
  after = newton.last_step(v, *given)
  assert newton.objective(after, *given) <= newton.objective(v, *given) + newton.SLACK
  full = newton.objective(v + newton.direction(v, *given), *given)
  assert full > 2 * newton.objective(v, *given)


@pytest.mark.parametrize('num_candidates', [2, 4])
def test_the_secant_bounds_the_objective_of_pairs_and_touches_it(num_candidates):
  given = problem(num_candidates)
  v, other = jnp.array([0.3, -0.7]), jnp.array([-1.5, 2.0])
  contrasts = newton.secant_contrasts(v, *given)
  value, slope = jax.value_and_grad(newton.objective)(v, *given)
  away = other - v
  bound = value + slope @ away + 0.5 * (away @ away + jnp.sum((contrasts @ away) ** 2))
  if num_candidates == 2:
    assert bound >= newton.objective(other, *given)
    swapped = newton.secant_contrasts(v, given[0], given[1], task.with_shots(given[2], 0))
    assert not swapped.any()
  assert jnp.isfinite(contrasts).all()


@pytest.mark.parametrize('num_candidates', [2, 4])
def test_the_mode_is_where_a_general_minimiser_ends(num_candidates):
  given = problem(num_candidates)
  energy = jax.jit(lambda v: newton.objective(v, *given))
  solved = optimize.minimize(
    lambda v: float(energy(jnp.asarray(v, jnp.float32))), np.zeros(WIDTH), method='Nelder-Mead'
  )
  np.testing.assert_allclose(newton.mode(*given, num_steps=8), solved.x, atol=2e-3)


def test_a_step_never_raises_the_energy():
  start = jnp.array([0.01, 0.0])
  np.testing.assert_array_equal(
    newton.line_search(lambda v: v @ v, start, jnp.array([9.0, 0.0])), start
  )
  overshooting = jnp.array([-0.02, 0.0])
  np.testing.assert_allclose(
    newton.line_search(lambda v: v @ v, start, overshooting), np.zeros(2), atol=1e-8
  )


def test_steps_whose_energy_is_no_number_are_passed_over():
  start, towards = jnp.array([1.0, 0.0]), jnp.array([-1.0, 0.0])
  beyond = newton.line_search(lambda v: jnp.log(v[0] - 0.6), start, towards)  # NaN at 0 and .5
  np.testing.assert_allclose(beyond, [0.75, 0.0])
  nowhere = newton.line_search(lambda v: v @ v, start, jnp.full(2, jnp.nan))
  np.testing.assert_array_equal(nowhere, start)
