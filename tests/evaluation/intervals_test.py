"""Intervals hold what they say; what makes their rows is tested beside `bootstrap`."""

import numpy as np
import pytest
from scipy import stats

from metapers.evaluation import bootstrap, intervals


def test_numbers_that_do_not_apply_have_no_variance_and_no_warning():
  samples = np.random.default_rng(0).normal(size=(41, 3))
  samples[:, 1], samples[5, 2] = np.nan, np.nan
  with np.testing.assert_no_warnings():
    _, low, high = intervals.interval(samples, 9)
  assert np.isnan([low[1], high[1]]).all() and np.isfinite([low[[0, 2]], high[[0, 2]]]).all()
  rows = np.array([1.0, np.nan, 4.0, 7.0])
  assert intervals.variance(rows[:, None]) == pytest.approx(np.var([1, 4, 7], ddof=1))


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
    mean, low, high = intervals.interval(samples, 40, **known)[:, 0]
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
    mean, low, high = intervals.interval(samples, 100, num_prompts=num_items, num_items=2)[:, 0]
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
    return intervals.Variances(users, prompts, np.zeros(1), np.zeros(1))

  monkeypatch.setattr(intervals, 'variances', twice)
  assert coverage(0.0, 0.0, 1.0, ids_known=True)[1] > 1.3


def test_resampling_users_alone_would_miss_the_prompts():
  assert coverage(0.3, 1.0, 0.3, ids_known=False)[0] < 0.8


def test_the_variance_is_floored_at_that_of_either_way():
  rng = np.random.default_rng(0)
  sds = (1.0, 0.2, 2.0, 0.0)
  halves = [sd * rng.normal(size=250) for sd in sds]
  samples = np.concatenate([[0.0], *(x for half in halves for x in (half, -half))])[:, None]
  sd = samples[1:501].std(ddof=1)
  _, low, high = intervals.interval(samples, 10**6, num_prompts=10**6)[:, 0]
  assert (high - low) / 2 == pytest.approx(1.96 * sd, rel=1e-3)


def test_few_users_have_the_quantiles_of_student():
  samples = np.concatenate([[5.0], np.tile([-1.0, 1.0], 2), np.zeros(12)])[:, None]
  sd = np.sqrt(4 / 3)
  low, high = intervals.interval(samples, 10**6)[1:, 0]
  np.testing.assert_allclose([low, high], [5 - 1.96 * sd, 5 + 1.96 * sd], rtol=1e-3)
  low, high = intervals.interval(samples, 6)[1:, 0]
  np.testing.assert_allclose(high - low, 2 * 2.5706 * np.sqrt(6 / 5) * sd, rtol=1e-3)
  assert intervals.student(6) == pytest.approx(2.5706 * np.sqrt(6 / 5), rel=1e-3)
  assert intervals.student(10**6, 0.5) == pytest.approx(0.6745, rel=1e-3)


def test_a_share_that_no_resample_changes_is_not_certain():
  flat = np.ones((41, 3)) * [1.0, 0.0, 0.4]
  flat[1:] += np.random.default_rng(0).uniform(-1e-7, 1e-7, (40, 3))  # weights are of 32 bits
  value, low, high = intervals.share_interval(flat, 20)
  np.testing.assert_allclose(value, [1, 0, 0.4])
  np.testing.assert_allclose(low, [0.05 ** (1 / 20), 0, 0.4 * 0.05 ** (1 / 20)])
  np.testing.assert_allclose(high[:2], [1, 1 - 0.05 ** (1 / 20)])
  samples = np.random.default_rng(0).normal(size=(41, 2))
  samples[:, 1] = np.nan
  np.testing.assert_array_equal(
    intervals.share_interval(samples, 20), intervals.interval(samples, 20)
  )


def test_of_twenty_who_are_all_right_new_users_may_be_wrong():
  share, sure = 0.9, []
  for trial in range(200):
    right = np.random.default_rng(trial).random((20, 1)) < share
    draws = bootstrap.draw(20, None, num_resamples=40, seed=trial)
    weights = bootstrap.weights(draws, np.ones((20, 1)), None)
    samples = bootstrap.with_seeds(weights @ right.reshape(-1, 1).astype(np.float32))
    if right.all():
      sure.append(intervals.share_interval(samples, 20)[1:, 0])
  assert sure and all(low <= share <= high for low, high in sure)


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
    _, low, high = intervals.interval(averaged, 50, num_seeds=3)[:, 0]
    held.append(low < 0 < high)
  assert 0.92 <= np.mean(held) <= 0.985


def rows(users, prompts=None):
  """Resamples of 0 that move by these values where users, and prompts, are drawn."""
  none = np.zeros(len(users))
  return np.concatenate([[0.0], users, none if prompts is None else prompts, none, none])[:, None]


def skewed_rows(size, skewness):
  """Returns rows [size] of variance 1 that have exactly this third moment: two values."""
  share = (1 - skewness / np.sqrt(4 + skewness**2)) / 2
  odds = share / (1 - share)
  return np.where(np.arange(size) < share * size, np.sqrt(1 / odds), -np.sqrt(odds))


def test_symmetric_rows_make_a_symmetric_interval():
  users = np.tile([-1.0, 1.0], 100)
  _, low, high = intervals.interval(rows(users), 10**6)[:, 0]
  assert low == pytest.approx(-high, rel=1e-9)


@pytest.mark.parametrize('number', [5, 10, 40])
def test_intervals_of_few_events_are_those_of_their_number(number):
  # So many rare events were seen: a Poisson number, whose exact 95 % interval is known.
  rng = np.random.default_rng(0)
  drawn = rng.poisson(number, 4000) - number
  _, low, high = intervals.interval(rows(drawn.astype(float)), 10**6)[:, 0] + number
  exact = stats.chi2.ppf(0.025, 2 * number) / 2, stats.chi2.ppf(0.975, 2 * number + 2) / 2
  np.testing.assert_allclose([low, high], exact, rtol=0.12)
  assert abs(number - 1.96 * np.sqrt(number) - exact[0]) > 1.5 * abs(low - exact[0])


@pytest.mark.parametrize('g', [-0.5, -0.1, 1e-3, 0.3, 0.5])
def test_the_transformation_is_undone(g):
  z = np.array([-1.96, 0.0, 1.96])
  t = intervals.untransformed(z, np.full(3, g))
  np.testing.assert_allclose((np.exp(2 * g * t / 3) - 1) / (2 * g / 3) + g / 6, z, atol=1e-6)
  np.testing.assert_allclose(intervals.untransformed(z, np.zeros(3)), z)


def test_skewness_that_chance_makes_is_none():
  rng = np.random.default_rng(1)
  drawn = rng.standard_normal((400, 2, 200))
  some = np.concatenate([rows(users, prompts) for users, prompts in drawn], 1)
  found = intervals.third_cumulant(some)
  assert (found == 0).mean() > 0.35 and np.abs(found).mean() < np.sqrt(6 / 200)


def test_the_larger_skewness_of_users_and_prompts_counts():
  skewed, none = skewed_rows(1000, 0.8), np.tile([-1.0, 1.0], 500)
  for samples in (rows(skewed, none), rows(none, skewed)):
    assert intervals.third_cumulant(samples).item() == pytest.approx(0.8, abs=0.03)
  both = intervals.third_cumulant(rows(skewed, -2 * skewed)).item()
  assert both == pytest.approx(-8 * 0.8, rel=0.03)


def test_few_skewed_users_are_held_as_often_as_they_should_be():
  rng = np.random.default_rng(0)
  held = {'now': [], 'symmetric': []}
  for trial in range(400):
    values = (rng.random(60) < 0.12) * rng.exponential(size=60)  # most users have nothing
    draws = bootstrap.draw(60, None, num_resamples=800, seed=trial)
    weights = bootstrap.weights(draws, np.ones((60, 1)), None)
    samples = bootstrap.with_seeds(weights @ values[:, None])
    _, low, high = intervals.interval(samples, 60)[:, 0]
    held['now'].append(low < 0.12 < high)
    half = intervals.student(60) * samples[bootstrap.kinds(len(samples)).users].std()
    held['symmetric'].append(abs(values.mean() - 0.12) < half)
  share = {name: np.mean(each) for name, each in held.items()}
  assert share['symmetric'] < 0.88 and share['now'] > 0.905
