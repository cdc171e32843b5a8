import jax.numpy as jnp
import numpy as np
import pytest

from metapers.core import task
from metapers.core.task import Candidates, Task
from metapers.learners import svd_start

D, RANK = 4, 2


def histories(num_users, num_comparisons, seed=0, num_candidates=2):
  """Returns noiseless choices by utilities of rank 2, of features that are correlated."""
  rng = np.random.default_rng(seed)
  directions = rng.normal(size=(D, RANK))
  utilities = rng.normal(size=(num_users, RANK)) @ directions.T
  mixing = rng.normal(size=(D, D)) + 2 * np.eye(D)
  x = rng.normal(size=(num_users, num_comparisons, num_candidates, D)) @ mixing
  choice = np.einsum('unkd,ud->unk', x, utilities).argmax(-1)
  mask = jnp.ones(x.shape[:-1], bool)
  given = task.choices(Candidates(jnp.asarray(x, jnp.float32), mask), jnp.asarray(choice))
  users = jnp.arange(num_users, dtype=jnp.int32)
  return Task(given, task.with_shots(given, 0), users, jnp.zeros((num_users, 0))), directions


def contrasts(given):
  x = np.asarray(given.support.candidates.features, float)
  chosen = np.asarray(given.support.choice)
  rows = np.take_along_axis(x, chosen[..., None, None], 2)[:, :, 0]
  return 2 * rows - x.sum(2)  # of two candidates: chosen minus other


def test_it_is_the_best_approximation_of_the_imputed_matrix_of_users_and_pairs():
  given, _ = histories(num_users=5, num_comparisons=6)
  found = svd_start.factors(given, RANK)
  pairs = contrasts(given).reshape(-1, D)
  labels = np.kron(np.eye(5), np.full((1, 6), 0.5))  # 1 - ½, and ½ - ½ where the pair was not seen
  ridge = np.sqrt(svd_start.RIDGE * np.trace(pairs.T @ pairs) / D) * np.eye(D)
  rows, targets = np.concatenate([pairs, ridge]), np.pad(labels, [(0, 0), (0, D)])
  basis, _ = np.linalg.qr(rows)  # reduced-rank regression: the SVD of the fitted values
  left, sizes, right = np.linalg.svd(targets @ basis @ basis.T, full_matrices=False)
  fitted = (left[:, :RANK] * sizes[:RANK]) @ right[:RANK]
  solved = np.linalg.lstsq(rows, fitted.T, rcond=None)[0].T  # utilities [U, D]
  actual = np.asarray(found.weights @ found.directions.T)
  # Of what all saw, 5 × 6 pairs, a user saw 6; logits are 4 × what their probability is above ½.
  np.testing.assert_allclose(actual, 4 * 5 * solved, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize('num_candidates', [2, 3])
def test_users_without_noise_show_the_subspace_that_they_share(num_candidates):
  given, directions = histories(100, 300, num_candidates=num_candidates)
  found = svd_start.factors(given, RANK)
  ours, _ = np.linalg.qr(np.asarray(found.directions))
  true, _ = np.linalg.qr(directions)
  assert np.linalg.svd(ours.T @ true)[1].min() > 0.995
  np.testing.assert_allclose(np.mean(found.weights**2, 0), 1, rtol=1e-4)


def test_weights_of_comparisons_count_and_masked_ones_do_not():
  given, _ = histories(5, 6)
  support = given.support
  twice = task.concat(support, task.with_shots(support, 2))
  weight = jnp.ones((5, 6)).at[:, :2].set(2.0)
  for first, second in zip(
    svd_start.factors(given._replace(support=twice), RANK),
    svd_start.factors(given._replace(support=support._replace(weight=weight)), RANK),
    strict=True,
  ):
    np.testing.assert_allclose(jnp.abs(first), jnp.abs(second), rtol=1e-3, atol=1e-4)


def test_a_user_without_comparisons_has_no_weights():
  given, _ = histories(5, 6)
  mask = given.support.mask.at[3].set(False)
  support = task.drop_masked(given.support._replace(mask=mask))
  found = svd_start.factors(given._replace(support=support), RANK)
  np.testing.assert_allclose(found.weights[3], 0, atol=1e-6)
  nobody = task.drop_masked(support._replace(mask=jnp.zeros_like(mask)))
  assert all(
    np.isfinite(part).all() for part in svd_start.factors(given._replace(support=nobody), RANK)
  )
