import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metapers.core import task
from metapers.core.task import Candidates, Task, Truth
from metapers.evaluation import bootstrap, estimates, metrics
from metapers.evaluation.predictions import Predictions

T, N, B, M, R = 60, 8, 3, 4, 5


@pytest.fixture(scope='module')
def users():
  rng = np.random.default_rng(0)
  rewards = rng.normal(size=(T, N, 2, B)).astype(np.float32)
  slates = rng.normal(size=(T, M, R, B)).astype(np.float32)
  weights = rng.dirichlet(np.ones(B), T).astype(np.float32)
  choice = np.einsum('tnkb,tb->tnk', rewards, weights).argmax(-1)
  mask = rng.random((T, N)) < 0.9
  mask[0] = False  # a user with nothing to judge
  query = task.choices(Candidates(rewards, np.ones((T, N, 2), bool)), choice, mask)
  ids, slate_ids = rng.integers(0, 30, (T, N)), rng.integers(0, 30, (T, M))
  shown = (rewards, np.ones((T, N, 2), bool), ids)
  slate = Candidates(slates, np.ones((T, M, R), bool))
  models = np.tile(np.arange(R), (T, M, 1))
  truth = Truth(weights, *shown, *shown, slate, slates, slate_ids, models)
  tasks = Task(query, query, np.arange(T), np.zeros((T, 0)))
  return jax.tree.map(jnp.asarray, (tasks, truth))


@pytest.fixture(scope='module')
def judge(users):
  return estimates.evaluation_set(*users, rival=0, num_resamples=150)


def predictions_of(users, noise, seed=0):
  """Predicts with the true weights plus noise, at two numbers of shots."""
  tasks, truth = users
  true = np.asarray(truth.weights)
  weights = true + noise * np.random.default_rng(seed).normal(size=(2, *true.shape))
  log_probs = jnp.einsum('tnkb,ltb->ltnk', tasks.query.candidates.features, weights)
  scores = jnp.einsum('tmrb,ltb->ltmr', truth.slate_rewards, weights)
  return Predictions(jax.nn.log_softmax(3 * log_probs), scores)


def test_row_zero_is_the_mean_over_users_of_every_metric(users, evaluated):
  predictions = predictions_of(users, 0.5)
  got = estimates.estimate(evaluated, predictions)
  for name, value in metrics.user_means(predictions, *users, rival=0).items():
    assert got[name].shape == (151, 2)
    np.testing.assert_allclose(got[name][0], value, rtol=1e-5, err_msg=name)
  assert evaluated.num_users == T - 1


def test_the_oracle_is_right_in_every_resample(users, evaluated):
  got = estimates.estimate(evaluated, predictions_of(users, 0.0))
  np.testing.assert_allclose(got['accuracy'], 1.0, rtol=1e-5)
  np.testing.assert_allclose(got['regret'], 0.0, atol=1e-5)
  np.testing.assert_allclose(got['accuracy_worst_decile'], 1.0, rtol=1e-5)


def test_the_worst_decile_is_the_mean_of_the_worst_tenth_of_the_users(users):
  fifty = jax.tree.map(lambda x: x[1:51], users)
  evaluated = estimates.evaluation_set(*fifty, num_resamples=50)
  predictions = predictions_of(fifty, 0.7)
  right = np.asarray(predictions.log_probs.argmax(-1)) == np.asarray(fifty[0].query.choice)
  mask = np.asarray(fifty[0].query.mask)
  by_user = (right & mask).sum(-1) / mask.sum(-1)
  worst = estimates.estimate(evaluated, predictions)['accuracy_worst_decile']
  np.testing.assert_allclose(worst[0], np.sort(by_user, -1)[:, :5].mean(-1), rtol=1e-5)
  low, high = bootstrap.interval(worst)[1:]
  assert (low <= worst[0]).all() and (worst[0] <= high).all()


def test_the_interval_of_a_difference_is_paired(users, evaluated):
  one, two = (predictions_of(users, noise, seed=1) for noise in (0.50, 0.52))
  first, second = estimates.estimate(evaluated, one), estimates.estimate(evaluated, two)
  apart = estimates.differences(first, second, 'pooled')
  assert set(apart) == {f'{name}_minus_pooled' for name in first}
  difference = apart['accuracy_minus_pooled']
  np.testing.assert_allclose(difference[0], first['accuracy'][0] - second['accuracy'][0])
  assert (difference.std(0) < 0.5 * first['accuracy'].std(0)).all()


def test_a_learner_minus_itself_is_exactly_nothing(users, evaluated):
  one, again = (estimates.estimate(evaluated, predictions_of(users, 0.5)) for _ in range(2))
  for value in estimates.differences(one, again, 'bayes').values():
    np.testing.assert_array_equal(value, 0.0)


def test_seeds_are_averaged_within_each_resample(users, evaluated):
  seeds = [estimates.estimate(evaluated, predictions_of(users, 0.6, seed)) for seed in (1, 2, 3)]
  averaged = estimates.average(seeds)
  np.testing.assert_allclose(
    averaged['nll'][17], np.mean([one['nll'][17] for one in seeds], 0), rtol=1e-6
  )


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
    return bootstrap.interval(estimates.estimate(evaluated, given)['ece'])[:, 0]

  calibrated, overconfident = error(1.0), error(6.0)
  assert calibrated[0] < 0.1 < 0.15 < overconfident[0]
  assert calibrated[2] < overconfident[1]
  assert calibrated[1] <= calibrated[0] <= calibrated[2]


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


def test_the_share_of_the_room_is_paired_and_empty_where_there_is_no_room(users, evaluated):
  floor, learner, ceiling = (
    estimates.estimate(evaluated, predictions_of(users, noise, seed=1)) for noise in (0.8, 0.3, 0.0)
  )
  share = estimates.recovered(learner, floor, ceiling)
  for row in (0, 7):
    room = ceiling['accuracy'][row] - floor['accuracy'][row]
    expected = (learner['accuracy'][row] - floor['accuracy'][row]) / room
    np.testing.assert_allclose(share[row], expected, rtol=1e-5)
  half = {'accuracy': (floor['accuracy'] + ceiling['accuracy']) / 2}
  np.testing.assert_allclose(estimates.recovered(half, floor, ceiling), 0.5, rtol=1e-4)
  near = {'accuracy': floor['accuracy'] + np.array([0.029, 0.031])}
  assert np.isnan(estimates.recovered(learner, floor, near)[:, 0]).all()
  assert np.isfinite(estimates.recovered(learner, floor, near)[:, 1]).all()


def test_real_people_are_judged_without_truth(users):
  tasks, _ = users
  evaluated = estimates.evaluation_set(tasks, num_resamples=50)
  predictions = predictions_of(users, 0.5)
  got = estimates.estimate(evaluated, predictions._replace(slate_scores=jnp.zeros((2, T, 0, 0))))
  selective = {'selective_accuracy_80', 'selective_accuracy_50'}
  assert set(got) == {'accuracy', 'nll', 'confidence', 'ece', 'accuracy_worst_decile'} | selective


def test_episodes_without_slates_are_judged_on_their_comparisons(users):
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


def test_diverged_predictions_are_refused_by_name(users, evaluated):
  predictions = predictions_of(users, 0.5)
  broken = predictions._replace(log_probs=predictions.log_probs.at[0, 5].set(jnp.nan))
  with pytest.raises(ValueError, match=r'nll.* not finite'):
    estimates.estimate(evaluated, broken)


def test_what_cannot_be_judged_is_refused(users):
  tasks, truth = users
  with pytest.raises(ValueError, match='rival=None'):
    estimates.evaluation_set(tasks, rival=0)
  with pytest.raises(ValueError, match='rival=9'):
    estimates.evaluation_set(tasks, truth, rival=9)
  nobody = tasks._replace(query=tasks.query._replace(mask=jnp.zeros((T, N), bool)))
  with pytest.raises(ValueError, match="nothing to judge in 'query'"):
    estimates.evaluation_set(nobody, truth)
