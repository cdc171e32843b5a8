import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize

from metapers.core import task
from metapers.core.task import Candidates
from metapers.learners import newton

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
  b = jax.random.normal(jax.random.key(1), (shape[1], 2))
  expected = np.linalg.solve(np.eye(shape[1]) + contrasts.T @ contrasts, b)
  np.testing.assert_allclose(newton.solve(contrasts, b), expected, rtol=1e-4, atol=1e-5)
  np.testing.assert_allclose(newton.inverse(contrasts) @ b, expected, rtol=1e-4, atol=1e-5)


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
