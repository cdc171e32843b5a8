import evaluation_sets
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metapers.analysis import disagreement
from metapers.analysis.disagreement import Contrasts
from metapers.core.population import Responses
from metapers.evaluation import bootstrap


def weights_of(size, seed, concentration=1.0):
  rng = np.random.default_rng(seed)
  return jnp.asarray(rng.dirichlet(np.full(4, concentration), size), jnp.float32)


def values_of(size, seed=5):
  return jnp.asarray(np.random.default_rng(seed).normal(size=(size, 4)), jnp.float32)


def responses(ids):
  """Five responses to each of some prompts, the last of them masked."""
  rewards = np.random.default_rng(2).normal(size=(12, 5, 4)).astype(np.float32)
  mask = np.arange(5) < np.full((12, 1), 4)
  mask[7, 1:] = False
  given = np.asarray(ids), {'tokens': np.zeros((12, 5, 3), int)}, rewards, mask
  return jax.tree.map(jnp.asarray, Responses(*given))


def random_contrasts(ids, prompts):
  return disagreement.random_contrasts(
    jax.random.key(0), responses(ids), np.array(prompts), num_contrasts=300
  )


def test_contrasts_are_of_two_different_responses_that_may_be_shown():
  contrasts = random_contrasts(range(12), [3, 7, 9])
  rewards, mask = (np.asarray(x) for x in responses(range(12))[2:])
  assert set(contrasts.prompts) == {3, 9}  # prompt 7 has a single response left
  assert 150 < len(contrasts.prompts) < 250
  assert (contrasts.weight == 1).all()
  found = set()
  for contrast, prompt in zip(contrasts.values, contrasts.prompts):
    real = np.flatnonzero(mask[prompt])
    options = [(i, j) for i in real for j in real if i != j]
    difference = np.array([rewards[prompt, i] - rewards[prompt, j] for i, j in options])
    found.add((prompt, *options[int(np.abs(difference - contrast).sum(-1).argmin())]))
    assert np.abs(difference - contrast).sum(-1).min() < 1e-5
  assert len(found) == 2 * 4 * 3  # every ordered pair is drawn


def test_prompts_are_found_by_their_ids_in_any_order():
  ids = 100 + np.random.default_rng(0).permutation(12)
  contrasts = random_contrasts(ids, ids[[3, 7, 9]])
  expected = random_contrasts(range(12), [3, 7, 9])
  np.testing.assert_array_equal(contrasts.values, expected.values)
  np.testing.assert_array_equal(contrasts.prompts, ids[expected.prompts])


def test_prompts_without_responses_are_refused():
  with pytest.raises(ValueError, match='2 of 3 prompts, such as 12, have no responses'):
    random_contrasts(range(12), [3, 12, -1])


def population_of(num_users=8, num_contrasts=30):
  rng = np.random.default_rng(3)
  prompts = rng.integers(0, 6, num_contrasts)
  draws = bootstrap.draw(num_users, prompts, num_resamples=40, seed=0)
  values = np.array(values_of(num_contrasts))
  values[0] = 0  # nobody cares
  weight = rng.integers(0, 3, num_contrasts).astype(np.float32)
  return draws, weights_of(num_users, 4), Contrasts(values, prompts, weight)


def test_the_rate_counts_every_pair_of_different_users_and_every_comparison():
  draws, weights, contrasts = population_of()
  got = disagreement.rate(draws, weights, contrasts)
  signs = np.sign(np.asarray(weights) @ contrasts.values.T)
  columns = np.searchsorted(draws.ids, contrasts.prompts)
  for row in (0, 1, 9):
    total = count = 0.0
    for q in range(len(columns)):
      for i in range(8):
        for j in set(range(8)) - {i}:
          times = draws.users[row, i] * draws.users[row, j] * draws.prompts[row, columns[q]]
          times *= contrasts.weight[q]
          total += times * (1 - signs[i, q] * signs[j, q]) / 2
          count += times
    np.testing.assert_allclose(got[row], total / count, rtol=1e-5)


def test_contested_is_the_share_of_comparisons_that_split_the_users():
  draws, weights, contrasts = population_of()
  got = disagreement.contested(draws, weights, contrasts)
  above = np.asarray(weights) @ contrasts.values.T > 0
  split = above.any(0) & ~above.all(0)
  np.testing.assert_allclose(got[0], np.average(split, weights=contrasts.weight), rtol=1e-6)
  times = draws.prompts[5][np.searchsorted(draws.ids, contrasts.prompts)] * contrasts.weight
  np.testing.assert_allclose(got[5], (times * split).sum() / times.sum(), rtol=1e-6)


def test_users_of_one_preference_never_disagree_and_two_camps_do_whenever_they_meet():
  contrasts = Contrasts(np.array(values_of(20)), np.zeros(20, int), np.ones(20, np.float32))
  draws = bootstrap.draw(4, contrasts.prompts, num_resamples=20, seed=0)
  same = jnp.tile(weights_of(1, 0), (4, 1))
  np.testing.assert_allclose(disagreement.rate(draws, same, contrasts)[0], 0, atol=1e-6)
  assert disagreement.contested(draws, same, contrasts)[0] == 0
  camps = same * jnp.array([1.0, 1, -1, -1])[:, None]
  np.testing.assert_allclose(disagreement.rate(draws, camps, contrasts)[0], 4 / 6, rtol=1e-5)
  assert disagreement.contested(draws, camps, contrasts)[0] == 1


def test_query_contrasts_are_real_comparisons_of_the_queries():
  tasks, truth = evaluation_sets.users(num_users=10)
  contrasts = disagreement.query_contrasts(tasks, truth, num_contrasts=30)
  real = np.asarray(tasks.query.mask)
  rewards = np.asarray(truth.query_rewards)[real]
  known = {tuple(row) for row in (rewards[:, 0] - rewards[:, 1]).tolist()}
  assert len(contrasts.prompts) == 30
  assert {tuple(row) for row in contrasts.values.tolist()} <= known
  every = disagreement.query_contrasts(tasks, truth)
  assert len(every.prompts) == real.sum()
  np.testing.assert_array_equal(every.prompts, np.asarray(truth.query_prompts)[real])


def test_query_contrasts_keep_the_weights_of_the_comparisons():
  tasks, truth = evaluation_sets.users(num_users=10)
  weight = jnp.asarray(np.random.default_rng(0).integers(0, 3, (10, 8)), jnp.float32)
  tasks = tasks._replace(query=tasks.query._replace(weight=weight))
  contrasts = disagreement.query_contrasts(tasks, truth)
  counted = np.asarray(weight)[np.asarray(tasks.query.mask)]
  np.testing.assert_array_equal(contrasts.weight, counted[counted > 0])
