import evaluation_sets
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metapers.evaluation import bootstrap, estimates, intervals, metrics
from metapers.evaluation.predictions import Predictions

T, N, M = 60, 8, 4


@pytest.fixture(scope='module')
def users():
  tasks, truth = evaluation_sets.users(T, N, M)
  slate = truth.slate._replace(mask=jnp.ones(truth.slate.mask.shape, bool))
  return tasks, truth._replace(slate=slate)


@pytest.fixture(scope='module')
def evaluated(users):
  return estimates.evaluation_set(*users, rival=0, num_resamples=150)


def predictions_of(users, noise, seed=0):
  """Predicts with the true weights plus noise, at two numbers of shots."""
  return evaluation_sets.noisy(*users, noise, seed)


def test_row_zero_is_the_mean_over_users_of_every_metric(users, evaluated):
  predictions = predictions_of(users, 0.5)
  got = estimates.estimate(evaluated, predictions)
  for name, value in metrics.user_means(predictions, *users, rival=0).items():
    assert got[name].shape == (153, 2)
    np.testing.assert_allclose(got[name][0], value, rtol=1e-5, err_msg=name)
  assert evaluated.num_users == T - 1


def test_the_oracle_is_right_in_every_resample(users, evaluated):
  got = estimates.estimate(evaluated, predictions_of(users, 0.0))
  np.testing.assert_allclose(got['accuracy'], 1.0, rtol=1e-5)
  np.testing.assert_allclose(got['regret'], 0.0, atol=1e-5)
  np.testing.assert_allclose(got['accuracy_worst_decile'], 1.0, rtol=1e-5)


def worst_of(by, on, share=0.1):
  """Mean of `on` over the lowest tenth of users by `by`, equal ones in equal parts."""
  left, total, found = share * by.size, 0.0, 0.0
  for value in np.unique(by):
    tied = on[by == value]
    part = min(left, tied.size)
    found, total, left = found + part * tied.mean(), total + part, left - part
  return found / total


def test_the_worst_tenth_are_ranked_by_one_half_and_measured_by_the_other(users):
  tasks, truth = jax.tree.map(lambda x: x[1:51], users)
  evaluated = estimates.evaluation_set(tasks, truth, num_resamples=60)
  predictions = predictions_of((tasks, truth), 0.7)
  right = np.asarray(predictions.log_probs.argmax(-1)) == np.asarray(tasks.query.choice)
  mask = np.asarray(tasks.query.mask)
  halves = [mask & (np.cumsum(mask, -1) % 2 == one) for one in (0, 1)]
  found = estimates.estimate(evaluated, predictions)['accuracy_worst_decile']
  for row in range(2):
    one, other = ((right[row] & half).sum(-1) / half.sum(-1) for half in halves)
    expected = (worst_of(one, other) + worst_of(other, one)) / 2
    np.testing.assert_allclose(found[0, row], expected, rtol=1e-4)


def test_of_equals_the_worst_tenth_is_as_good_as_all():
  tasks, truth = evaluation_sets.users(300, 12, 1, num_prompts=2000)
  rng = np.random.default_rng(0)
  right = rng.random(tasks.query.choice.shape) < 0.8
  choice = np.asarray(tasks.query.choice)
  log_probs = np.log(
    np.where(np.arange(2) == np.where(right, choice, 1 - choice)[..., None], 0.9, 0.1)
  )
  given = evaluation_sets.noisy(tasks, truth, 0.5, num_rows=1)._replace(
    log_probs=jnp.asarray(log_probs[None], jnp.float32)
  )
  evaluated = estimates.evaluation_set(tasks, truth, num_resamples=300)
  value, low, high = intervals.interval(
    estimates.estimate(evaluated, given)['accuracy_worst_decile'], 300
  )[:, 0]
  assert low < 0.8 < high and abs(value - 0.8) < 0.06


def test_the_interval_of_a_difference_is_paired(users, evaluated):
  one, two = (predictions_of(users, noise, seed=1) for noise in (0.50, 0.52))
  first, second = estimates.estimate(evaluated, one), estimates.estimate(evaluated, two)
  apart = estimates.differences(first, second, 'pooled')
  compared = set(first) - {estimates.BY_CHANCE}
  assert set(apart) == {f'{name}_minus_pooled' for name in compared}
  difference = apart['accuracy_minus_pooled']
  np.testing.assert_allclose(difference[0], first['accuracy'][0] - second['accuracy'][0])
  assert (difference.std(0) < 0.5 * first['accuracy'].std(0)).all()


def test_a_learner_minus_itself_is_exactly_nothing(users, evaluated):
  one, again = (estimates.estimate(evaluated, predictions_of(users, 0.5)) for _ in range(2))
  for value in estimates.differences(one, again, 'bayes').values():
    np.testing.assert_array_equal(value, 0.0)


def test_seeds_are_averaged_within_each_resample(users, evaluated):
  seeds = [estimates.estimate(evaluated, predictions_of(users, 0.6, seed)) for seed in (1, 2, 3)]
  averaged = estimates.average(seeds, 'anil')
  np.testing.assert_allclose(
    averaged['nll'][17], np.mean([one['nll'][17] for one in seeds], 0), rtol=1e-6
  )
  own = bootstrap.kinds(len(averaged['nll'])).seeds
  assert averaged['nll'][own].std() > 0
  again, other = (estimates.average(seeds, name) for name in ('anil', 'maml'))
  np.testing.assert_array_equal(averaged['nll'], again['nll'])
  assert not np.array_equal(averaged['nll'][own], other['nll'][own])  # drawn apart


def test_calibrated_predictions_have_a_small_calibration_error(users):
  tasks, truth = users
  rng = np.random.default_rng(0)
  chance = rng.random((T, N))
  choice = jnp.asarray((rng.random((T, N)) < chance).astype(int))
  tasks = tasks._replace(query=tasks.query._replace(choice=choice))
  evaluated = estimates.evaluation_set(tasks, truth, num_resamples=100)

  def error(sharpness):
    logit = sharpness * np.log(chance / (1 - chance))
    log_p = -np.logaddexp(0, np.stack([logit, -logit], -1))
    log_probs = jnp.asarray(np.stack([log_p, log_p]), jnp.float32)
    given = predictions_of(users, 0.5)._replace(log_probs=log_probs)
    return intervals.interval(estimates.estimate(evaluated, given)['ece'], 60)[:, 0]

  calibrated, overconfident = error(1.0), error(6.0)
  assert calibrated[0] < 0.1 < 0.15 < overconfident[0]
  assert calibrated[2] < overconfident[1]
  assert calibrated[1] <= calibrated[0] <= calibrated[2]


def said_of(right, sure):
  """What is estimated of T people whose choices are predicted right or not, all with `sure`."""
  num_users, num_queries = right.shape
  tasks, _ = evaluation_sets.users(num_users, num_queries, 1)
  mask = jnp.ones(right.shape, bool)
  tasks = tasks._replace(
    query=tasks.query._replace(choice=jnp.asarray(1 - right.astype(int)), mask=mask)
  )
  log_probs = jnp.broadcast_to(jnp.log(jnp.array([sure, 1 - sure])), (1, *right.shape, 2))
  evaluated = estimates.evaluation_set(tasks, num_resamples=100)
  made = Predictions(log_probs, jnp.zeros((1, num_users, 0, 0)))
  return estimates.estimate(evaluated, made), evaluated


def test_users_who_differ_do_not_make_the_calibrated_look_miscalibrated():
  rng, found = np.random.default_rng(0), []
  for _ in range(60):
    chance = 0.7 + 0.2 * rng.choice([-1, 1], (60, 1))
    own, _ = said_of(rng.random((60, 60)) < chance, 0.7)
    found.append([own[name][0, 0] for name in ('ece', 'brier_calibration')])
  error = np.std(found, 0) / np.sqrt(60)
  assert (np.abs(np.mean(found, 0)) < 3 * error).all()


def test_one_query_of_each_user_is_enough_to_see_that_they_are_not_calibrated():
  right = np.random.default_rng(0).random((200, 1)) < 0.5
  own, _ = said_of(right, 0.99)
  assert own['ece'][0, 0] == pytest.approx(0.49, abs=0.1)
  assert np.isnan(own['accuracy_worst_decile']).all()  # ranked and measured by other queries


def test_selective_accuracy_keeps_the_most_confident_of_every_resample(users, evaluated):
  predictions = predictions_of(users, 0.7)
  got = estimates.estimate(evaluated, predictions)
  right = np.asarray(predictions.log_probs.argmax(-1)[1] == users[0].query.choice).ravel()
  order = np.argsort(-np.asarray(predictions.log_probs.max(-1))[1].ravel())
  mask = np.asarray(users[0].query.mask).ravel()[order]
  for coverage in (80, 50):
    for resample, slack in ((0, 1e-5), (3, 0.01), (40, 0.01)):
      weights = evaluated.weights['query'][resample][order] * mask
      taken = np.clip(coverage / 100 - (np.cumsum(weights) - weights), 0, weights)
      expected = taken @ right[order] / (coverage / 100)
      assert abs(got[f'selective_accuracy_{coverage}'][resample, 1] - expected) < slack
  assert (got['selective_accuracy_50'][0] > got['selective_accuracy_80'][0]).all()
  assert (got['selective_accuracy_80'][0] > got['accuracy'][0]).all()


def test_which_predictions_are_selected_never_depends_on_labels(users, evaluated):
  confidence = np.random.default_rng(0).random((1, T, N)).astype(np.float32)
  accuracy = np.random.default_rng(1).integers(0, 2, (1, T, N)).astype(np.float32)
  right = estimates.selective(evaluated, confidence, accuracy)
  wrong = estimates.selective(evaluated, confidence, 1 - accuracy)
  for name, value in right.items():
    np.testing.assert_allclose(value + wrong[name], 1, rtol=1e-4)


def test_the_share_of_the_gap_is_paired_and_nan_where_the_gap_is_small(users, evaluated):
  floor, learner, ceiling = (
    estimates.estimate(evaluated, predictions_of(users, noise, seed=1)) for noise in (0.8, 0.3, 0.0)
  )
  share = estimates.recovered(learner, floor, ceiling)
  for row in (0, 7):
    gap = ceiling['accuracy'][row] - floor['accuracy'][row]
    expected = (learner['accuracy'][row] - floor['accuracy'][row]) / gap
    np.testing.assert_allclose(share[row], expected, rtol=1e-5)
  half = {'accuracy': (floor['accuracy'] + ceiling['accuracy']) / 2}
  np.testing.assert_allclose(estimates.recovered(half, floor, ceiling), 0.5, rtol=1e-4)
  near = {'accuracy': floor['accuracy'] + np.array([0.029, 0.031])}
  assert np.isnan(estimates.recovered(learner, floor, near)[:, 0]).all()
  assert np.isfinite(estimates.recovered(learner, floor, near)[:, 1]).all()


def test_real_people_are_evaluated_without_truth(users):
  tasks, _ = users
  evaluated = estimates.evaluation_set(tasks, num_resamples=50)
  predictions = predictions_of(users, 0.5)
  got = estimates.estimate(evaluated, predictions._replace(slate_scores=jnp.zeros((2, T, 0, 0))))
  selective = {'selective_accuracy_80', 'selective_accuracy_50'}
  others = {estimates.BY_CHANCE, 'brier_calibration', 'accuracy_worst_decile'}
  assert set(got) == {'accuracy', 'nll', 'confidence', 'ece'} | others | selective


def test_episodes_without_slates_are_evaluated_on_their_comparisons(users):
  tasks, truth = users
  without = truth._replace(
    slate=jax.tree.map(lambda x: x[:, :0], truth.slate),
    slate_rewards=truth.slate_rewards[:, :0],
    slate_prompts=truth.slate_prompts[:, :0],
    slate_models=truth.slate_models[:, :0],
  )
  evaluated = estimates.evaluation_set(tasks, without, num_resamples=20)
  given = predictions_of(users, 0.5)
  got = estimates.estimate(evaluated, given._replace(slate_scores=given.slate_scores[:, :, :0]))
  assert 'accuracy_noiseless' in got and 'regret' not in got


def estimate_twice(tasks, truth, predictions, *, weighted):
  """Estimates with comparison 2 of every user counted twice, by weight or by repetition."""
  if weighted:
    weight = 1 + jnp.broadcast_to(jnp.arange(N) == 2, (T, N)).astype(jnp.float32)
    tasks = tasks._replace(query=tasks.query._replace(weight=weight))
  else:
    twice = jnp.array([*range(N), 2])
    tasks = tasks._replace(query=jax.tree.map(lambda x: x[:, twice], tasks.query))
    shown = truth.query_rewards, truth.query_mask, truth.query_prompts
    shown = (x[:, twice] for x in shown)
    truth = truth._replace(**dict(zip(('query_rewards', 'query_mask', 'query_prompts'), shown)))
    predictions = predictions._replace(log_probs=predictions.log_probs[:, :, twice])
  evaluated = estimates.evaluation_set(tasks, truth, num_resamples=30)
  return estimates.estimate(evaluated, predictions)


def test_weight_two_is_the_comparison_twice(users):
  predictions = predictions_of(users, 0.7)
  got, expected = (
    estimate_twice(*users, predictions, weighted=weighted) for weighted in (True, False)
  )
  assert got.keys() == expected.keys()
  by_halves = {'ece', estimates.BY_CHANCE, 'brier_calibration', 'accuracy_worst_decile'}
  for name in expected.keys() - by_halves:
    np.testing.assert_allclose(got[name], expected[name], rtol=1e-4, atol=1e-5, err_msg=name)


def test_users_whose_comparisons_weigh_nothing_are_not_counted(users):
  tasks, truth = users
  weight = jnp.ones((T, N)).at[1:11].set(0)
  weightless = tasks._replace(query=tasks.query._replace(weight=weight))
  masked = tasks._replace(query=tasks.query._replace(mask=tasks.query.mask & (weight > 0)))
  predictions = predictions_of(users, 0.7)
  sets = [estimates.evaluation_set(each, truth, num_resamples=30) for each in (weightless, masked)]
  assert sets[0].num_users == sets[1].num_users == T - 11
  got, expected = (estimates.estimate(each, predictions) for each in sets)
  jax.tree.map(np.testing.assert_array_equal, got, expected)


def test_diverged_predictions_are_refused_by_name(users, evaluated):
  predictions = predictions_of(users, 0.5)
  broken = predictions._replace(log_probs=predictions.log_probs.at[0, 5].set(jnp.nan))
  with pytest.raises(ValueError, match=r'nll.* not finite'):
    estimates.estimate(evaluated, broken)


def test_what_cannot_be_evaluated_is_refused(users):
  tasks, truth = users
  with pytest.raises(ValueError, match='rival=None'):
    estimates.evaluation_set(tasks, rival=0)
  with pytest.raises(ValueError, match='rival=9'):
    estimates.evaluation_set(tasks, truth, rival=9)
  nobody = tasks._replace(query=tasks.query._replace(mask=jnp.zeros((T, N), bool)))
  with pytest.raises(ValueError, match="nothing to evaluate in 'query'"):
    estimates.evaluation_set(nobody, truth)
  first = tasks._replace(query=tasks.query._replace(mask=tasks.query.mask.at[2:].set(False)))
  with pytest.raises(ValueError, match=r'at least 2 users .* of 60 there is 1'):
    estimates.evaluation_set(first, truth)


@pytest.mark.parametrize(
  ('metric', 'has_width'),
  [
    ('accuracy', True),
    ('selective_accuracy_80', True),
    ('users_worse_than_pooled', True),
    ('accuracy_minus_pooled', False),
    ('accuracy_share_of_bayes', False),
    ('nll', False),
  ],
)
def test_shares_alone_have_the_interval_of_shares(metric, has_width):
  _, low, high = estimates.interval(metric, np.ones((41, 1)), num_users=20)
  assert (high > low) == has_width
