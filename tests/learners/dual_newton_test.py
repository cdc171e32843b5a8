import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize, special

from metapers.core import task
from metapers.core.task import Candidates
from metapers.learners import dual_newton

NUM_COMPARISONS, D = 6, 9
MASKED = 5  # the comparison that is not real


def comparisons(num_candidates):
  """Weighted comparisons: one is masked, and of another the last candidate is."""
  rng = np.random.default_rng(0)
  shape = (NUM_COMPARISONS, num_candidates)
  mask = np.ones(shape, bool)
  mask[2, -1] = num_candidates == 2
  choice = rng.integers(0, num_candidates, NUM_COMPARISONS).astype(np.int32)
  choice[2] = 0
  weight = rng.uniform(0.5, 2.0, NUM_COMPARISONS).astype(np.float32)
  features = rng.normal(size=(*shape, D)).astype(np.float32)
  offered = Candidates(jnp.asarray(features), jnp.asarray(mask))
  real = jnp.arange(NUM_COMPARISONS) != MASKED
  return task.drop_masked(task.choices(offered, jnp.asarray(choice), real, jnp.asarray(weight)))


@pytest.mark.parametrize('num_candidates', [2, 4])
def test_it_is_the_mode_and_hessian_of_a_general_minimiser_in_float64(num_candidates):
  given = comparisons(num_candidates)
  rng = np.random.default_rng(1)
  mean, root = rng.normal(size=D), np.tril(rng.normal(size=(D, D)))
  features, mask = (np.asarray(each) for each in given.candidates)

  def energy(v):
    utility = np.where(mask, features @ (mean + root @ v), -np.inf)[:MASKED]
    chosen = np.take_along_axis(utility, np.asarray(given.choice)[:MASKED, None], 1)[:, 0]
    nll = special.logsumexp(utility, axis=1) - chosen
    return nll @ np.asarray(given.weight, np.float64)[:MASKED] + 0.5 * v @ v

  offset, factors = (jnp.asarray(features @ x, jnp.float32) for x in (mean, root))
  found = dual_newton.laplace(offset, factors, given, num_steps=8)
  solved = optimize.minimize(energy, np.zeros(D), tol=1e-12).x
  np.testing.assert_allclose(found.contrasts.T @ found.mode, solved, atol=2e-3)

  directions = 1e-3 * np.eye(D)
  hessian = np.array([
    [(energy(solved + a + b) - energy(solved + a - b) - energy(solved - a + b)
      + energy(solved - a - b)) / 4e-6 for a in directions]
    for b in directions
  ])  # fmt: skip
  expected = np.linalg.inv(hessian)
  rows = found.contrasts
  reduced = np.eye(D) - rows.T @ found.reduction @ rows
  np.testing.assert_allclose(reduced, expected, atol=2e-3)


def test_a_comparison_made_twice_is_one_of_weight_two():
  once = comparisons(2)
  twice = jax.tree.map(lambda x: jnp.concatenate([x, x]), once)  # their Gram matrix is singular
  doubled = once._replace(weight=2 * once.weight)
  found, expected = (
    dual_newton.laplace(
      jnp.zeros(each.candidates.mask.shape), each.candidates.features, each, num_steps=8
    )
    for each in (twice, doubled)
  )
  for x in (found, expected):
    assert np.isfinite(x.mode).all()
  np.testing.assert_allclose(
    found.contrasts.T @ found.mode, expected.contrasts.T @ expected.mode, atol=1e-5
  )
  np.testing.assert_allclose(
    found.contrasts.T @ found.reduction @ found.contrasts,
    expected.contrasts.T @ expected.reduction @ expected.contrasts,
    atol=1e-4,
  )
