import jax
import jax.numpy as jnp
import numpy as np

from metapers.core import task
from metapers.core.task import Candidates
from metapers.learners import linear_head, newton

WIDTH = 2


def support(num_comparisons=6, num_candidates=2, seed=0):
  key_offset, key_factor, key_choice = jax.random.split(jax.random.key(seed), 3)
  shape = (num_comparisons, num_candidates)
  offset = jax.random.normal(key_offset, shape)
  factors = 2 * jax.random.normal(key_factor, (*shape, WIDTH))
  choice = jax.random.randint(key_choice, (num_comparisons,), 0, num_candidates)
  candidates = Candidates(factors, jnp.ones(shape, bool))
  return offset, factors, task.choices(candidates, choice, jnp.ones(num_comparisons, bool))


def posterior_of(offset, factors, comparisons, num_samples=4):
  return linear_head.laplace(
    offset, factors, comparisons, jax.random.key(1), num_steps=8, num_samples=num_samples
  )


def grid_posterior(offset, factors, comparisons):
  axis = jnp.linspace(-6, 6, 301)
  points = jnp.stack(jnp.meshgrid(axis, axis), -1).reshape(-1, WIDTH)
  energy = jax.vmap(lambda v: newton.objective(v, offset, factors, comparisons))(points)
  return points, jax.nn.softmax(-energy)


def test_mode_has_no_gradient_left():
  for num_candidates in (2, 4):
    offset, factors, comparisons = support(num_candidates=num_candidates)
    mode = posterior_of(offset, factors, comparisons).mean
    gradient = jax.grad(newton.objective)(mode, offset, factors, comparisons)
    np.testing.assert_allclose(gradient, 0, atol=1e-4)


def test_no_comparisons_leave_the_prior():
  offset, factors, comparisons = support()
  posterior = posterior_of(offset, factors, task.with_shots(comparisons, 0), num_samples=20_000)
  np.testing.assert_allclose(posterior.mean, 0, atol=1e-6)
  np.testing.assert_allclose(posterior.covariance, np.eye(WIDTH), atol=1e-5)
  np.testing.assert_allclose(np.cov(posterior.noise.T), np.eye(WIDTH), atol=0.05)


def test_predictive_is_close_to_exact_integration():
  offset, factors, comparisons = support()
  points, weight = grid_posterior(offset, factors, comparisons)
  query_offset, query_factors, query = support(20, seed=5)
  scores = query_offset[None] + jnp.einsum('nkh,ph->pnk', query_factors, points)
  exact = jnp.einsum('p,pnk->nk', weight, jax.nn.softmax(scores, -1))
  posterior = posterior_of(offset, factors, comparisons)
  made = linear_head.predictive(query_offset, query_factors, posterior, query.candidates)
  # Laplace and probit are approximations: within a few points on average, never on the wrong side.
  assert float(jnp.abs(jnp.exp(made) - exact).mean()) < 0.03


def test_probit_and_sampled_softmax_agree_for_two_candidates():
  offset, factors, comparisons = support()
  posterior = posterior_of(offset, factors, comparisons, num_samples=4000)
  query_offset, query_factors, query = support(10, seed=7)
  probit = linear_head.predictive(query_offset, query_factors, posterior, query.candidates)
  wide = Candidates(
    jnp.zeros((10, 3, WIDTH)), jnp.broadcast_to(jnp.array([True, True, False]), (10, 3))
  )
  offset, factors = (
    jnp.pad(x, [(0, 0), (0, 1), *[(0, 0)] * (x.ndim - 2)]) for x in (query_offset, query_factors)
  )
  sampled = linear_head.predictive(offset, factors, posterior, wide)
  np.testing.assert_allclose(jnp.exp(sampled)[:, :2], jnp.exp(probit), atol=0.03)
