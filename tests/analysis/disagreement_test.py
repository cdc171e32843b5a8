import evaluation_sets
import jax
import jax.numpy as jnp
import numpy as np

from metapers.analysis import disagreement
from metapers.analysis.disagreement import Pairs
from metapers.evaluation import bootstrap


def weights_of(size, seed, concentration=1.0):
  rng = np.random.default_rng(seed)
  return jnp.asarray(rng.dirichlet(np.full(4, concentration), size), jnp.float32)


def contrasts_of(size, seed=5):
  return jnp.asarray(np.random.default_rng(seed).normal(size=(size, 4)), jnp.float32)


def drawn_pairs(num_pairs=300):
  rng = np.random.default_rng(2)
  rewards = jnp.asarray(rng.normal(size=(12, 5, 4)), jnp.float32)
  mask = jnp.ones((12, 5), bool).at[:, 4].set(False).at[7, 1:].set(False)
  prompts = np.array([3, 7, 9])
  pairs = disagreement.draw_pairs(jax.random.key(0), rewards, mask, prompts, num_pairs=num_pairs)
  return np.asarray(rewards), np.asarray(mask), pairs


def test_pairs_are_of_two_different_responses_that_may_be_shown():
  rewards, mask, pairs = drawn_pairs()
  assert set(pairs.prompts) == {3, 9}  # prompt 7 has a single response left
  assert 150 < len(pairs.prompts) < 250
  found = set()
  for contrast, prompt in zip(pairs.contrasts, pairs.prompts):
    real = np.flatnonzero(mask[prompt])
    options = [(i, j) for i in real for j in real if i != j]
    difference = np.array([rewards[prompt, i] - rewards[prompt, j] for i, j in options])
    found.add((prompt, *options[int(np.abs(difference - contrast).sum(-1).argmin())]))
    assert np.abs(difference - contrast).sum(-1).min() < 1e-5
  assert len(found) == 2 * 4 * 3  # every ordered pair turns up


def test_distances_to_the_nearest_equal_a_loop():
  new, seen, contrasts = weights_of(9, 0), weights_of(20, 1), contrasts_of(50)
  l1 = disagreement.nearest_l1(new, seen, chunk_size=4)
  differ = disagreement.nearest_disagreement(new, seen, contrasts, chunk_size=4)
  new, seen, contrasts = map(np.asarray, (new, seen, contrasts))
  for user in range(9):
    np.testing.assert_allclose(l1[user], np.abs(seen - new[user]).sum(-1).min(), rtol=1e-5)
    shares = [np.mean((contrasts @ new[user] > 0) != (contrasts @ other > 0)) for other in seen]
    np.testing.assert_allclose(differ[user], min(shares), atol=1e-6)


def test_a_seen_user_is_no_distance_from_the_seen():
  seen, contrasts = weights_of(20, 1), contrasts_of(50)
  np.testing.assert_allclose(disagreement.nearest_l1(seen[:3], seen), 0, atol=1e-7)
  np.testing.assert_allclose(disagreement.nearest_disagreement(seen[:3], seen, contrasts), 0)


def test_sharp_tastes_are_nearer_to_seen_ones_than_mixed_ones():
  contrasts = contrasts_of(1000)
  medians = []
  for concentration in (0.01, 1.0):
    new, seen = (weights_of(100, seed, concentration) for seed in (0, 1))
    nearest = disagreement.nearest_disagreement(new, seen, contrasts)
    medians.append(float(jnp.median(nearest)))
  assert medians[0] < 0.001 < 0.01 < medians[1]


def population_of(num_users=8, num_pairs=30):
  rng = np.random.default_rng(3)
  prompts = rng.integers(0, 6, num_pairs)
  draws = bootstrap.draw(num_users, prompts, num_resamples=40, seed=0)
  contrasts = np.array(contrasts_of(num_pairs))
  contrasts[0] = 0  # nobody cares
  return draws, weights_of(num_users, 4), Pairs(contrasts, prompts)


def test_the_rate_counts_every_pair_of_different_users_and_every_comparison():
  draws, weights, pairs = population_of()
  got = disagreement.rate(draws, weights, pairs)
  signs = np.sign(np.asarray(weights) @ pairs.contrasts.T)
  columns = np.searchsorted(draws.ids, pairs.prompts)
  for row in (0, 1, 9):
    total = count = 0.0
    for q in range(len(columns)):
      for i in range(8):
        for j in set(range(8)) - {i}:
          times = draws.users[row, i] * draws.users[row, j] * draws.prompts[row, columns[q]]
          total += times * (1 - signs[i, q] * signs[j, q]) / 2
          count += times
    np.testing.assert_allclose(got[row], total / count, rtol=1e-5)


def test_contested_is_the_share_of_comparisons_that_split_the_users():
  draws, weights, pairs = population_of()
  got = disagreement.contested(draws, weights, pairs)
  above = np.asarray(weights) @ pairs.contrasts.T > 0
  split = above.any(0) & ~above.all(0)
  np.testing.assert_allclose(got[0], split.mean())
  times = draws.prompts[5][np.searchsorted(draws.ids, pairs.prompts)]
  np.testing.assert_allclose(got[5], (times * split).sum() / times.sum(), rtol=1e-6)


def test_users_of_one_taste_never_disagree_and_two_camps_do_whenever_they_meet():
  contrasts = np.array(contrasts_of(20))
  pairs = Pairs(contrasts, np.zeros(20, int))
  draws = bootstrap.draw(4, pairs.prompts, num_resamples=20, seed=0)
  same = jnp.tile(weights_of(1, 0), (4, 1))
  np.testing.assert_allclose(disagreement.rate(draws, same, pairs)[0], 0, atol=1e-6)
  assert disagreement.contested(draws, same, pairs)[0] == 0
  camps = same * jnp.array([1.0, 1, -1, -1])[:, None]
  np.testing.assert_allclose(disagreement.rate(draws, camps, pairs)[0], 4 / 6, rtol=1e-5)
  assert disagreement.contested(draws, camps, pairs)[0] == 1


def test_judged_pairs_are_real_comparisons_of_the_queries():
  tasks, truth = evaluation_sets.users(num_users=10)
  pairs = disagreement.judged_pairs(tasks, truth, num_pairs=30)
  real = np.asarray(tasks.query.mask)
  rewards = np.asarray(truth.query_rewards)[real]
  known = {tuple(row) for row in (rewards[:, 0] - rewards[:, 1]).tolist()}
  assert len(pairs.prompts) == 30
  assert {tuple(row) for row in pairs.contrasts.tolist()} <= known
  every = disagreement.judged_pairs(tasks, truth)
  assert len(every.prompts) == real.sum()
  np.testing.assert_array_equal(every.prompts, np.asarray(truth.query_prompts)[real])
