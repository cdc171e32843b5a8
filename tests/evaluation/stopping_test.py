import jax.numpy as jnp
import numpy as np
import scipy.stats

from metapers.evaluation import stopping


def test_two_gaussian_candidates_stand_as_in_closed_form():
  gap, spread = 0.7, 1.3  # u_0 - u_1 ~ N(gap, spread²)
  drawn = np.random.default_rng(0).normal(gap, spread, 400_000)
  utilities = jnp.asarray(np.stack([drawn, np.zeros_like(drawn)], 1), jnp.float32)
  found = stopping.standing(jnp.array([gap, 0.0]), utilities, jnp.ones(2, bool))
  gaussian = scipy.stats.norm
  lost = spread * gaussian.pdf(gap / spread) - gap * gaussian.cdf(-gap / spread)
  assert found.best == 0
  np.testing.assert_allclose(found.probability, gaussian.cdf(gap / spread), atol=3e-3)
  np.testing.assert_allclose(found.regret, lost, atol=6e-3)


def test_the_best_by_expectation_counts_also_where_most_draws_prefer_another():
  utilities = jnp.array([[9.0, 0.0], [-1.0, 0.0], [-1.0, 0.0]])
  found = stopping.standing(utilities.mean(0), utilities, jnp.ones(2, bool))
  assert found.best == 0
  np.testing.assert_allclose(found.probability, 1 / 3, rtol=1e-6)
  np.testing.assert_allclose(found.regret, 2 / 3, rtol=1e-6)


def test_what_is_masked_is_no_rival_and_ties_cost_nothing():
  utilities = jnp.array([[1.0, 1.0, jnp.nan], [2.0, 2.0, 99.0]])
  scores, real = jnp.array([1.5, 1.5, jnp.nan]), jnp.array([True, True, False])
  found = stopping.standing(scores, utilities, real)
  assert (found.best, found.probability, found.regret) == (0, 1.0, 0.0)


def test_a_stop_is_the_first_time_that_a_level_is_reached():
  probability = np.array([[0.1, 0.5, 0.2], [0.9, 0.7, 0.3], [0.2, 0.9, 0.4]])
  assert stopping.stops(probability, 0.9).tolist() == [1, 2, 3]
