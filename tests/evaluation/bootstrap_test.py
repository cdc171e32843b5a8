import hypothesis
import numpy as np
import pytest
from hypothesis import strategies

from metapers.evaluation import bootstrap, intervals


def draws_of(users, prompts, ids):
  return bootstrap.Draws(np.float32(users), np.float32(prompts), np.array(ids), 0)


def test_row_zero_weighs_the_sample_itself():
  draws = bootstrap.draw(3, np.array([7, 9]), num_resamples=5, seed=0)
  counted = np.array([[1.0, 1.0], [1.0, 0.0], [0.0, 0.0]])  # the third user has nothing
  weights = bootstrap.weights(draws, counted, np.array([[7, 9], [9, 7], [7, 7]]))
  values = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 0.0]])
  assert weights.shape == (7, 6)
  assert weights[0] @ values.ravel() == pytest.approx((0.5 + 1.0) / 2)


def test_each_quarter_of_the_rows_draws_one_kind_of_thing():
  draws = bootstrap.draw(30, np.arange(40), num_resamples=40, seed=0)
  users, prompts, cells, seeds = bootstrap.kinds(41)
  assert [x.stop - x.start for x in bootstrap.kinds(41)] == [10] * 4
  assert (draws.users.sum(-1) == 30).all() and (draws.prompts.sum(-1) == 40).all()
  assert draws.users[users].std() > 0.8 and draws.prompts[prompts].std() > 0.8
  assert (np.delete(draws.users, np.r_[users], 0) == 1).all()
  assert (np.delete(draws.prompts, np.r_[prompts], 0) == 1).all()
  ids = np.random.default_rng(0).integers(0, 40, (30, 50))
  weights = bootstrap.weights(draws, np.ones((30, 50)), ids)
  mean = bootstrap.with_seeds(weights @ ids.reshape(-1, 1))
  assert (mean[seeds] == mean[0]).all() and len(mean) == 41
  weights = weights.reshape(31, 30, 50)
  once = (
    weights[cells]
    / weights[0]
    / (weights[cells].max(axis=(1, 2)) / weights[0].max())[:, None, None]
  )
  assert set(np.unique(once.round(4))) == {0.0, 1.0}  # each twice or never
  assert once.mean() == pytest.approx(0.5, abs=0.02)


@hypothesis.given(strategies.integers(0, 2**32 - 1))
@hypothesis.settings(max_examples=25)
def test_weights_are_the_times_the_user_was_drawn_by_the_times_the_prompt_was(seed):
  rng = np.random.default_rng(seed)
  prompts = rng.integers(0, 4, (5, 3))
  denominator = rng.random((5, 3)) * (rng.random((5, 3)) < 0.7)
  denominator[0] = 1.0
  values = rng.random((5, 3)) * (denominator > 0)
  times_user, times_prompt = rng.integers(0, 3, 5), rng.integers(1, 3, 4)
  times_user[0] = 1
  draws = draws_of([times_user], [times_prompt], np.arange(4))
  above = below = 0.0
  for user in range(5):
    if real := (denominator[user] > 0).sum():
      times = times_user[user] * times_prompt[prompts[user]] / real
      above += (times * values[user]).sum()
      below += (times * denominator[user]).sum()
  weights = bootstrap.weights(draws, denominator, prompts)
  assert weights[0] @ values.ravel() == pytest.approx(above / below, rel=1e-4)


def test_weight_two_is_the_observation_twice():
  rng = np.random.default_rng(0)
  prompts, values, denominator = rng.integers(0, 4, (5, 3)), rng.random((5, 3)), rng.random((5, 3))
  draws = bootstrap.draw(5, prompts, num_resamples=28, seed=0)
  weight = np.ones((5, 3)) + (np.arange(3) == 1)
  weighted = bootstrap.weights(draws, denominator, prompts, weight) @ values.ravel()
  twice = [0, 1, 1, 2]
  repeated = bootstrap.weights(draws, denominator[:, twice], prompts[:, twice])
  np.testing.assert_allclose(weighted, repeated @ values[:, twice].ravel(), rtol=1e-5)


def test_a_cell_is_drawn_as_a_whole():
  index = np.array([[3, 5, 3], [3, 3, 5]])
  drawn = bootstrap.cells(index, 200, 0)
  np.testing.assert_array_equal(drawn[:, 0, 0], drawn[:, 0, 2])  # one user on one prompt, twice
  np.testing.assert_array_equal(drawn[:, 1, 0], drawn[:, 1, 1])
  assert (drawn[:, 0, 0] != drawn[:, 1, 0]).any()  # another user on the same prompt
  assert set(np.unique(drawn)) == {0, 2}


def test_no_resample_of_few_items_is_lost_or_larger_than_the_expansion_says():
  items = np.tile([0, 1], (2, 3, 1))  # of three items the third is never compared
  draws = draws_of(np.ones((29, 2)), np.ones((29, 3)), [0, 1, 2])
  draws.prompts[bootstrap.kinds(29).prompts] = [0, 0, 3]  # m = -1 for all comparisons
  weights = bootstrap.weights(draws, np.ones((2, 3)), items)
  assert np.isfinite(weights).all()
  np.testing.assert_allclose(weights.sum(-1), 1, rtol=1e-5)


def test_a_user_none_of_whose_prompts_are_drawn_is_left_out():
  draws = draws_of([[1, 1]], [[0, 2]], [5, 6])
  weights = bootstrap.weights(draws, np.ones((2, 1)), np.array([[5], [6]]))
  np.testing.assert_allclose(weights, [[0.0, 1.0]])


def test_the_same_seed_gives_the_same_draws():
  one, two, other = (
    bootstrap.draw(20, np.arange(9), num_resamples=8, seed=seed) for seed in (3, 3, 4)
  )
  np.testing.assert_array_equal(one.users, two.users)
  np.testing.assert_array_equal(one.prompts, two.prompts)
  assert not np.array_equal(one.users, other.users)


def test_people_without_prompts_are_resampled_whole():
  draws = bootstrap.draw(4, None, num_resamples=8, seed=0)
  weights = bootstrap.weights(draws, np.ones((4, 2)), None)
  np.testing.assert_allclose(weights.reshape(7, 4, 2).sum(-1), draws.users[:7] / 4, rtol=1e-6)


@pytest.mark.parametrize(('num_users', 'num_resamples'), [(1, 10), (10, 1)])
def test_one_user_or_one_resample_is_refused(num_users, num_resamples):
  with pytest.raises(ValueError, match='at least 2'):
    bootstrap.draw(num_users, None, num_resamples=num_resamples, seed=0)


def test_rows_of_seeds_vary_as_the_mean_of_the_seeds_does():
  rng = np.random.default_rng(0)
  seeds = [rng.normal(size=(1, 2)) + np.zeros((4001, 2)) for _ in range(3)]
  averaged = bootstrap.over_seeds(seeds, np.random.default_rng(1))
  np.testing.assert_allclose(averaged[0], np.mean([each[0] for each in seeds], 0))
  found = intervals.variances(averaged, 10)
  expected = np.var([each[0] for each in seeds], 0, ddof=1) / 3
  np.testing.assert_allclose(found[:3], 0, atol=1e-12)
  np.testing.assert_allclose(found.seeds, expected, rtol=0.1)


def test_one_seed_says_nothing_of_the_next():
  one = np.random.default_rng(0).normal(size=(41, 2))
  np.testing.assert_array_equal(bootstrap.over_seeds([one], np.random.default_rng(0)), one)


def test_the_lower_tail_counts_users_as_often_as_they_are_drawn_and_shares_ties():
  values = np.array([0.9, 0.1, 0.5, 0.3])
  counts = np.array([[1.0, 1.0, 1.0, 1.0], [2.0, 0.0, 1.0, 1.0], [4.0, 0.0, 0.0, 0.0]])
  taken = bootstrap.lower_tail(values, counts, 0.5)
  np.testing.assert_allclose(taken, [[0, 1, 0, 1], [0, 0, 1, 1], [2, 0, 0, 0]])
  np.testing.assert_allclose(bootstrap.lower_tail(values, counts[:1], 0.375), [[0, 1, 0, 0.5]])
  tied = bootstrap.lower_tail(np.array([0.5, 0.5, 0.9, 0.5]), counts[:1], 0.5)
  np.testing.assert_allclose(tied, [[2 / 3, 2 / 3, 0, 2 / 3]])
