import evaluation_sets
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, strategies
from hypothesis.extra import numpy as arrays

from metapers.analysis import groups
from metapers.evaluation import bootstrap, estimates, intervals

values_of_users = arrays.arrays(
  np.float64, strategies.integers(1, 40), elements=strategies.sampled_from([0, 0.1, 0.5, 1, 2, 7])
)


@given(values_of_users, strategies.integers(1, 5))
def test_groups_follow_the_order_of_the_values_and_equal_ones_stay_together(values, num_groups):
  made = groups.by_size('size', values, num_groups=num_groups)
  assert set(made.index) == set(range(len(made.labels)))
  assert len(made.labels) <= num_groups
  order = np.argsort(values, kind='stable')
  assert (np.diff(made.index[order]) >= 0).all()
  for value in set(values):
    assert len(set(made.index[values == value])) == 1


def test_distinct_values_make_groups_of_one_size():
  values = np.random.default_rng(0).permutation(np.arange(1.0, 101.0))
  made = groups.by_size('size', values)
  assert np.bincount(made.index).tolist() == [25] * 4
  assert made.labels == ('1-25', '26-50', '51-75', '76-100')


def test_many_zeros_are_a_group_of_their_own_and_the_rest_is_divided():
  values = np.concatenate([np.zeros(70), np.arange(1, 31) / 100])
  made = groups.by_size('size', values, in_percent=True)
  assert np.bincount(made.index).tolist() == [70, 10, 10, 10]
  assert made.labels == ('0 %', '1-10 %', '11-20 %', '21-30 %')
  assert groups.by_size('size', np.zeros(9)).labels == ('0',)


def test_a_value_that_is_not_finite_is_refused():
  with pytest.raises(ValueError, match='finite'):
    groups.by_size('distance', np.array([0.0, np.nan]))


def test_entropy_runs_from_nothing_to_the_log_of_the_number_of_models():
  got = groups.entropy(np.array([[1.0, 0, 0], [0.5, 0.5, 0], [1 / 3, 1 / 3, 1 / 3]]))
  np.testing.assert_allclose(got, [0, np.log(2), np.log(3)], atol=1e-12)


@pytest.fixture(scope='module')
def evaluation():
  tasks, truth = evaluation_sets.users()
  divided = groups.by_size('entropy', groups.entropy(np.asarray(truth.weights)), num_groups=3)
  return tasks, truth, evaluation_sets.evaluation_set(tasks, truth), divided


@pytest.mark.parametrize('weights', [(1,), (0, 1, 3)])
def test_a_group_is_evaluated_as_if_its_users_were_alone(evaluation, weights):
  tasks, truth, _, divided = evaluation
  times = np.random.default_rng(0).choice(weights, tasks.query.mask.shape).astype(np.float32)
  tasks = tasks._replace(query=tasks.query._replace(weight=jnp.asarray(times)))
  evaluated = evaluation_sets.evaluation_set(tasks, truth)
  predictions = evaluation_sets.noisy(tasks, truth, 0.5)
  got = groups.estimate(evaluated, predictions, divided, row=1)
  mask = np.asarray(tasks.query.mask)
  right = np.asarray(predictions.log_probs[1].argmax(-1) == tasks.query.choice)
  prompts = np.searchsorted(evaluated.draws.ids, np.asarray(truth.query_prompts))
  of_group = groups.sizes(divided, evaluated)
  for resample in (0, 1, 17):
    weight = mask * times * evaluated.draws.prompts[resample][prompts]
    for group in range(3):
      counts = evaluated.draws.users[resample] * (divided.index == group) * (weight.sum(-1) > 0)
      own = (weight * right).sum(-1) / np.maximum(weight.sum(-1), 1e-9)
      expected = (counts * own).sum() / counts.sum()
      of_few = intervals.student(int(of_group[group])) / intervals.student(evaluated.num_users)
      moved = (got['accuracy'][resample, group] - got['accuracy'][0, group]) / of_few
      np.testing.assert_allclose(got['accuracy'][0, group] + moved, expected, rtol=1e-4)


def test_groups_weighted_by_their_users_give_the_whole(evaluation):
  tasks, truth, evaluated, divided = evaluation
  predictions = evaluation_sets.noisy(tasks, truth, 0.5)
  whole = estimates.estimate(evaluated, predictions)
  sizes = groups.sizes(divided, evaluated)
  assert sizes.sum() == evaluated.num_users
  for row, metric in ((0, 'nll'), (-1, 'nll'), (-1, 'accuracy')):
    parts = groups.estimate(evaluated, predictions, divided, row=row)[metric][0]
    np.testing.assert_allclose(parts @ sizes / sizes.sum(), whole[metric][0, row], rtol=1e-5)


def test_a_learner_that_is_only_good_on_near_users_is_found_out(evaluation):
  tasks, truth, evaluated, _ = evaluation
  distance = np.arange(len(tasks.user)) / 100
  true = np.asarray(truth.weights)
  pooled = np.full_like(true, 1 / 3)
  near = np.where(distance[:, None] < 0.3, true, pooled)
  by_distance = groups.by_size('distance', distance, num_groups=2)
  learner, baseline = (
    groups.estimate(
      evaluated,
      evaluation_sets.predictions(tasks, truth, jnp.asarray(weights)[None]),
      by_distance,
    )
    for weights in (near, pooled)
  )
  gain = estimates.differences(learner, baseline, 'pooled')['accuracy_minus_pooled']
  low, high = intervals.interval(gain, 60)[1:]
  assert low[0] > 0.03
  np.testing.assert_allclose([gain[0, 1], low[1], high[1]], 0, atol=1e-6)


def test_intervals_of_a_small_group_are_those_of_as_few_users():
  tasks, truth = evaluation_sets.users()
  evaluated = estimates.evaluation_set(tasks, num_resamples=4000)  # users alone
  predictions = evaluation_sets.noisy(tasks, truth, 0.5)
  real = np.asarray(tasks.query.mask)
  first = np.flatnonzero(real.any(-1))[:6]
  few = groups.Groups('few', ('6', 'rest'), (~np.isin(np.arange(60), first)).astype(int))
  got = groups.estimate(evaluated, predictions, few)['nll'][:, :1]
  sd = got[bootstrap.kinds(len(got)).users].std()
  chosen = np.asarray(tasks.query.choice)[..., None]
  nll = -np.take_along_axis(np.asarray(predictions.log_probs[-1]), chosen, -1)[..., 0]
  own = [nll[user][real[user]].mean() for user in first]
  half = 2.5706 * np.std(own, ddof=1) / np.sqrt(6)  # Student's t of 6
  assert intervals.student(evaluated.num_users) * sd == pytest.approx(half, rel=0.1)


def test_a_resample_without_anyone_of_a_group_is_passed_over():
  tasks, truth = evaluation_sets.users(num_users=6)
  evaluated = evaluation_sets.evaluation_set(tasks, truth)
  one = groups.by_size('rank', np.array([1.0, 1, 1, 1, 1, 2]), num_groups=6)
  got = groups.estimate(evaluated, evaluation_sets.noisy(tasks, truth, 0.5), one)['accuracy']
  assert np.isnan(got[1:, 1]).any() and np.isfinite(got[:, 0]).mean() > 0.9
  assert np.isfinite(intervals.interval(got, 60)).all()


def test_users_whose_comparisons_weigh_nothing_are_not_counted(evaluation):
  tasks, truth, evaluated, divided = evaluation
  weight = tasks.query.weight.at[5].set(0)
  tasks = tasks._replace(query=tasks.query._replace(weight=weight))
  fewer = groups.sizes(divided, evaluation_sets.evaluation_set(tasks, truth))
  expected = groups.sizes(divided, evaluated)
  expected[divided.index[5]] -= 1
  np.testing.assert_array_equal(fewer, expected)


def test_groups_of_other_users_are_refused(evaluation):
  tasks, truth, evaluated, _ = evaluation
  other = groups.by_size('size', np.arange(7.0))
  with pytest.raises(ValueError, match='groups 7 users, but 60 are evaluated'):
    groups.estimate(evaluated, evaluation_sets.noisy(tasks, truth, 0.5), other)


def test_means_and_medians_over_resampled_users_equal_those_of_the_drawn_list():
  values = np.random.default_rng(1).exponential(size=31)
  draws = bootstrap.draw(31, None, num_resamples=20, seed=0)
  mean, median = groups.user_mean(draws, values), groups.user_median(draws, values)
  for row in (0, 3, 20):
    drawn = np.repeat(values, draws.users[row].astype(int))
    np.testing.assert_allclose(mean[row], drawn.mean(), rtol=1e-6)
    np.testing.assert_allclose(median[row], np.median(drawn), rtol=1e-6)


def favourites(truth):
  return groups.Groups('favourite', ('0', '1', '2'), np.asarray(truth.weights).argmax(-1))


def test_the_worst_group_is_told_by_one_half_of_the_users_and_measured_on_the_other():
  tasks, truth = evaluation_sets.users(num_users=240)
  evaluated = evaluation_sets.evaluation_set(tasks, truth)
  divided = favourites(truth)
  known = np.asarray(truth.weights).copy()
  known[divided.index == 1] = [[1, 0, 0]]  # who favour the second are taken for others
  made = evaluation_sets.predictions(tasks, truth, jnp.asarray(known)[None])
  found = groups.extremes(evaluated, made, divided)
  right = np.asarray(made.log_probs[0].argmax(-1) == tasks.query.choice)
  mask = np.asarray(tasks.query.mask)
  own = np.array([row[real].mean() if real.any() else np.nan for row, real in zip(right, mask)])
  halves = [half.any(-1) & (divided.index == 1) for half in estimates.user_halves(evaluated)]
  expected = np.mean([np.nanmean(own[half]) for half in halves])
  np.testing.assert_allclose(found['accuracy_worst_group'][0, 0], expected, rtol=1e-5)
  assert found['accuracy_best_group'][0, 0] == pytest.approx(1)
  gap = found['accuracy_best_group'] - found['accuracy_worst_group']
  np.testing.assert_allclose(found['accuracy_group_gap'], gap)


def test_equals_have_no_gap_but_noise():
  gaps = []
  for seed in range(12):
    tasks, truth = evaluation_sets.users(num_users=120, seed=seed)
    evaluated = evaluation_sets.evaluation_set(tasks, truth)
    flat = jnp.asarray(np.random.default_rng(seed).normal(size=(1, 120, 3)), jnp.float32)
    made = evaluation_sets.predictions(tasks, truth, flat)
    index = np.random.default_rng(seed).integers(0, 3, 120)
    divided = groups.Groups('random', ('0', '1', '2'), index)
    gaps.append(groups.extremes(evaluated, made, divided)['accuracy_group_gap'][0, 0])
  assert abs(np.mean(gaps)) < 3 * np.std(gaps) / 12**0.5


def test_too_small_groups_have_no_extremes():
  tasks, truth = evaluation_sets.users(num_users=12)
  evaluated = evaluation_sets.evaluation_set(tasks, truth)
  made = evaluation_sets.noisy(tasks, truth, 0.5)
  assert groups.extremes(evaluated, made, favourites(truth)) == {}
