import hypothesis
import numpy as np
import pytest
from hypothesis import strategies

from metapers.evaluation import bootstrap


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


def test_numbers_that_do_not_apply_have_no_variance_and_no_warning():
  samples = np.random.default_rng(0).normal(size=(41, 3))
  samples[:, 1], samples[5, 2] = np.nan, np.nan
  with np.testing.assert_no_warnings():
    _, low, high = bootstrap.interval(samples, 9)
  assert np.isnan([low[1], high[1]]).all() and np.isfinite([low[[0, 2]], high[[0, 2]]]).all()
  rows = np.array([1.0, np.nan, 4.0, 7.0])
  assert bootstrap.variance(rows[:, None]) == pytest.approx(np.var([1, 4, 7], ddof=1))


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


def coverage(user_sd, prompt_sd, noise_sd, ids_known, num_prompts=40, num_trials=300):
  """How often the interval holds the mean 0 of new users and prompts, and its relative width."""
  rng = np.random.default_rng(0)
  held, half, means = [], [], []
  for trial in range(num_trials):
    prompts = rng.integers(0, num_prompts, (40, 10))
    value = user_sd * rng.normal(size=(40, 1))
    value = value + (prompt_sd * rng.normal(size=num_prompts))[prompts]
    value += noise_sd * rng.normal(size=value.shape)
    ids = prompts if ids_known else None
    draws = bootstrap.draw(40, ids, num_resamples=400, seed=trial)
    weights = bootstrap.weights(draws, np.ones((40, 10)), ids)
    samples = bootstrap.with_seeds(weights @ value.reshape(-1, 1))
    known = {'num_prompts': num_prompts} if ids_known else {}
    mean, low, high = bootstrap.interval(samples, 40, **known)[:, 0]
    held.append(low < 0 < high)
    half.append((high - low) / 2)
    means.append(mean)
  return np.mean(held), np.mean(half) / (1.96 * np.std(means))


@pytest.mark.parametrize(
  'sds', [(1.0, 1.0, 0.3), (1.0, 0.0, 0.5), (0.0, 1.0, 0.5), (0.0, 0.0, 1.0), (0.1, 0.1, 1.0)]
)
def test_intervals_cover_new_users_and_new_prompts_and_are_no_wider(sds):
  covered, width = coverage(*sds, ids_known=True)
  assert 0.91 <= covered <= 0.985
  assert 0.93 <= width <= 1.22


def covered_by_items(num_items, item_sd, own_sd, noise_sd, num_queries=10, num_trials=150):
  """As `coverage`, of people who compare two items each of which has an effect, also on each."""
  rng = np.random.default_rng(0)
  held, half, means = [], [], []
  for trial in range(num_trials):
    first = rng.integers(0, num_items, (100, num_queries))
    second = (first + rng.integers(1, num_items, first.shape)) % num_items
    effect = item_sd * rng.normal(size=num_items) + own_sd * rng.normal(size=(100, num_items))
    value = sum(np.take_along_axis(effect, one, 1) for one in (first, second))
    value = value + noise_sd * rng.normal(size=first.shape)
    items = np.stack([first, second], -1)
    draws = bootstrap.draw(100, items, num_resamples=300, seed=trial)
    weights = bootstrap.weights(draws, np.ones(first.shape), items)
    samples = bootstrap.with_seeds(weights @ value.reshape(-1, 1))
    mean, low, high = bootstrap.interval(samples, 100, num_prompts=num_items, num_items=2)[:, 0]
    held.append(low < 0 < high)
    half.append((high - low) / 2)
    means.append(mean)
  return np.mean(held), np.mean(half) / (1.96 * np.std(means))


def test_few_prompts_are_not_taken_for_many():
  assert 0.9 <= coverage(0.3, 0.5, 1.0, ids_known=True, num_prompts=4)[0] <= 0.985


def test_few_items_are_not_taken_for_many():
  assert covered_by_items(6, 0.35, 0.0, 1.0)[0] >= 0.88


def test_what_one_says_of_an_item_again_and_again_counts_once():
  covered, width = covered_by_items(20, 0.0, 1.0, 0.5, num_queries=30, num_trials=100)
  assert covered >= 0.91 and width <= 1.12


def test_the_noise_that_users_and_prompts_both_hold_counts_once(monkeypatch):
  def twice(samples, *_):
    users, prompts, *_ = (samples[own].var(0, ddof=1) for own in bootstrap.kinds(len(samples)))
    return bootstrap.Variances(users, prompts, np.zeros(1), np.zeros(1))

  monkeypatch.setattr(bootstrap, 'variances', twice)
  assert coverage(0.0, 0.0, 1.0, ids_known=True)[1] > 1.3


def test_resampling_users_alone_would_miss_the_prompts():
  assert coverage(0.3, 1.0, 0.3, ids_known=False)[0] < 0.8


def test_the_variance_is_floored_at_that_of_either_way():
  rng = np.random.default_rng(0)
  sds = (1.0, 0.2, 2.0, 0.0)
  samples = np.concatenate([[0.0], *(sd * rng.normal(size=500) for sd in sds)])[:, None]
  sd = samples[1:501].std(ddof=1)
  _, low, high = bootstrap.interval(samples, 10**6, num_prompts=10**6)[:, 0]
  assert (high - low) / 2 == pytest.approx(1.96 * sd, rel=1e-3)


def test_few_users_have_the_quantiles_of_student():
  samples = np.concatenate([[5.0], np.tile([-1.0, 1.0], 2), np.zeros(12)])[:, None]
  sd = np.sqrt(4 / 3)
  low, high = bootstrap.interval(samples, 10**6)[1:, 0]
  np.testing.assert_allclose([low, high], [5 - 1.96 * sd, 5 + 1.96 * sd], rtol=1e-3)
  low, high = bootstrap.interval(samples, 6)[1:, 0]
  np.testing.assert_allclose(high - low, 2 * 2.5706 * np.sqrt(6 / 5) * sd, rtol=1e-3)
  assert bootstrap.student(6) == pytest.approx(2.5706 * np.sqrt(6 / 5), rel=1e-3)
  assert bootstrap.student(10**6, 0.5) == pytest.approx(0.6745, rel=1e-3)


def test_a_share_that_no_resample_changes_is_not_certain():
  flat = np.ones((41, 3)) * [1.0, 0.0, 0.4]
  flat[1:] += np.random.default_rng(0).uniform(-1e-7, 1e-7, (40, 3))  # weights are of 32 bits
  value, low, high = bootstrap.share_interval(flat, 20)
  np.testing.assert_allclose(value, [1, 0, 0.4])
  np.testing.assert_allclose(low, [0.05 ** (1 / 20), 0, 0.4 * 0.05 ** (1 / 20)])
  np.testing.assert_allclose(high[:2], [1, 1 - 0.05 ** (1 / 20)])
  samples = np.random.default_rng(0).normal(size=(41, 2))
  samples[:, 1] = np.nan
  np.testing.assert_array_equal(
    bootstrap.share_interval(samples, 20), bootstrap.interval(samples, 20)
  )


def test_of_twenty_who_are_all_right_new_users_may_be_wrong():
  share, sure = 0.9, []
  for trial in range(200):
    right = np.random.default_rng(trial).random((20, 1)) < share
    draws = bootstrap.draw(20, None, num_resamples=40, seed=trial)
    weights = bootstrap.weights(draws, np.ones((20, 1)), None)
    samples = bootstrap.with_seeds(weights @ right.reshape(-1, 1).astype(np.float32))
    if right.all():
      sure.append(bootstrap.share_interval(samples, 20)[1:, 0])
  assert sure and all(low <= share <= high for low, high in sure)


def test_rows_of_seeds_vary_as_the_mean_of_the_seeds_does():
  rng = np.random.default_rng(0)
  seeds = [rng.normal(size=(1, 2)) + np.zeros((4001, 2)) for _ in range(3)]
  averaged = bootstrap.over_seeds(seeds, np.random.default_rng(1))
  np.testing.assert_allclose(averaged[0], np.mean([each[0] for each in seeds], 0))
  found = bootstrap.variances(averaged, 10)
  expected = np.var([each[0] for each in seeds], 0, ddof=1) / 3
  np.testing.assert_allclose(found[:3], 0, atol=1e-12)
  np.testing.assert_allclose(found.seeds, expected, rtol=0.1)


@pytest.mark.parametrize('seed_sd', [0.02, 0.5])
def test_intervals_over_three_seeds_cover_models_trained_anew(seed_sd):
  rng = np.random.default_rng(0)
  held = []
  for trial in range(400):
    users = 0.1 * rng.normal(size=50)
    trained = users[None] + seed_sd * rng.normal(size=(3, 1))
    draws = bootstrap.draw(50, None, num_resamples=400, seed=trial)
    weights = bootstrap.weights(draws, np.ones((50, 1)), None)
    seeds = [bootstrap.with_seeds(weights @ each[:, None]) for each in trained]
    averaged = bootstrap.over_seeds(seeds, np.random.default_rng(trial))
    _, low, high = bootstrap.interval(averaged, 50, num_seeds=3)[:, 0]
    held.append(low < 0 < high)
  assert 0.92 <= np.mean(held) <= 0.985


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
