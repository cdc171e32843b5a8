import hypothesis
import numpy as np
import pytest
from hypothesis import strategies

from metapers.evaluation import bootstrap


def draws_of(users, prompts, ids):
  return bootstrap.Draws(np.float32(users), np.float32(prompts), np.array(ids))


def test_row_zero_weighs_the_sample_itself():
  draws = bootstrap.draw(3, np.array([7, 9]), num_resamples=5, seed=0)
  denominator = np.array([[1.0, 1.0], [1.0, 0.0], [0.0, 0.0]])  # the third user has nothing
  weights = bootstrap.weights(draws, denominator, np.array([[7, 9], [9, 7], [7, 7]]))
  values = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 0.0]])
  assert weights.shape == (6, 6)
  assert weights[0] @ values.ravel() == pytest.approx((0.5 + 1.0) / 2)


@hypothesis.given(strategies.integers(0, 2**32 - 1))
@hypothesis.settings(max_examples=25, deadline=None)
def test_weights_are_the_times_the_user_was_drawn_by_the_times_the_prompt_was(seed):
  rng = np.random.default_rng(seed)
  prompts = rng.integers(0, 4, (5, 3))
  denominator = rng.random((5, 3)) * (rng.random((5, 3)) < 0.7)
  denominator[0] = 1.0
  values = rng.random((5, 3)) * (denominator > 0)
  times_user, times_prompt = rng.integers(0, 3, 5), rng.integers(1, 3, 4)
  times_user[0] = 1
  draws = draws_of([times_user], [times_prompt], np.arange(4))
  expected = []
  for user in range(5):
    weight = times_prompt[prompts[user]]
    total = (weight * denominator[user]).sum()
    if total > 0:
      expected += [(weight * values[user]).sum() / total] * times_user[user]
  weights = bootstrap.weights(draws, denominator, prompts)
  assert weights[0] @ values.ravel() == pytest.approx(np.mean(expected), rel=1e-4)


def test_weight_two_is_the_observation_twice_in_every_resample():
  rng = np.random.default_rng(0)
  prompts, values, denominator = rng.integers(0, 4, (5, 3)), rng.random((5, 3)), rng.random((5, 3))
  draws = bootstrap.draw(5, prompts, num_resamples=20, seed=0)
  weight = np.ones((5, 3)) + (np.arange(3) == 1)
  weighted = bootstrap.weights(draws, denominator, prompts, weight) @ values.ravel()
  twice = [0, 1, 1, 2]
  repeated = bootstrap.weights(draws, denominator[:, twice], prompts[:, twice])
  np.testing.assert_allclose(weighted, repeated @ values[:, twice].ravel(), rtol=1e-5)


def test_a_user_none_of_whose_prompts_are_drawn_is_left_out():
  draws = draws_of([[1, 1]], [[0, 2]], [5, 6])
  weights = bootstrap.weights(draws, np.ones((2, 1)), np.array([[5], [6]]))
  np.testing.assert_allclose(weights, [[0.0, 2 * 0.5]])


def test_the_same_seed_gives_the_same_draws():
  one, two, other = (
    bootstrap.draw(20, np.arange(9), num_resamples=8, seed=seed) for seed in (3, 3, 4)
  )
  np.testing.assert_array_equal(one.users, two.users)
  np.testing.assert_array_equal(one.prompts, two.prompts)
  assert not np.array_equal(one.users, other.users)


def test_people_without_prompts_are_resampled_whole():
  draws = bootstrap.draw(4, None, num_resamples=6, seed=0)
  weights = bootstrap.weights(draws, np.ones((4, 2)), None)
  np.testing.assert_allclose(weights.reshape(7, 4, 2).sum(-1), draws.users / 4, rtol=1e-6)


@pytest.mark.parametrize(('num_users', 'num_resamples'), [(1, 10), (10, 1)])
def test_one_user_or_one_resample_is_refused(num_users, num_resamples):
  with pytest.raises(ValueError, match='at least 2'):
    bootstrap.draw(num_users, None, num_resamples=num_resamples, seed=0)


def coverage(user_sd, prompt_sd, noise_sd, ids_known, num_trials=150):
  """How often the interval holds the mean 0 that new users and new prompts have."""
  rng = np.random.default_rng(0)
  held = []
  for trial in range(num_trials):
    prompts = rng.integers(0, 40, (40, 10))
    value = user_sd * rng.normal(size=(40, 1)) + (prompt_sd * rng.normal(size=40))[prompts]
    value += noise_sd * rng.normal(size=value.shape)
    ids = prompts if ids_known else None
    draws = bootstrap.draw(40, ids, num_resamples=200, seed=trial)
    samples = bootstrap.weights(draws, np.ones((40, 10)), ids) @ value.reshape(-1, 1)
    low, high = bootstrap.interval(samples, 60)[1:, 0]
    held.append(low < 0 < high)
  return np.mean(held)


@pytest.mark.parametrize('sds', [(1.0, 1.0, 0.3), (1.0, 0.0, 0.5), (0.0, 1.0, 0.5)])
def test_intervals_cover_new_users_and_new_prompts(sds):
  assert 0.89 <= coverage(*sds, ids_known=True) <= 0.995


def test_pure_noise_makes_intervals_wide_never_narrow():
  assert coverage(0.0, 0.0, 1.0, ids_known=True) >= 0.97


def test_resampling_users_alone_would_miss_the_prompts():
  assert coverage(0.3, 1.0, 0.3, ids_known=False) < 0.8


def test_the_interval_is_the_percentiles_of_the_resamples():
  samples = np.concatenate([[50.0], np.random.default_rng(0).permutation(101)])[:, None]
  np.testing.assert_allclose(bootstrap.interval(samples, 60)[:, 0], [50, 2.5, 97.5])
  np.testing.assert_allclose(bootstrap.interval(samples, level=0.5)[:, 0], [50, 25, 75])


def test_the_lower_tail_counts_users_as_often_as_they_are_drawn():
  values = np.array([0.9, 0.1, 0.5, 0.3])
  counts = np.array([[1.0, 1.0, 1.0, 1.0], [2.0, 0.0, 1.0, 1.0], [4.0, 0.0, 0.0, 0.0]])
  tail = bootstrap.lower_tail_mean(values, counts, 0.5)
  np.testing.assert_allclose(tail, [(0.1 + 0.3) / 2, (0.3 + 0.5) / 2, 0.9])
  assert bootstrap.lower_tail_mean(values, counts[:1], 0.375)[0] == pytest.approx(0.25 / 1.5)
