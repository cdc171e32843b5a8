import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from simulated_posteriors import SETTINGS, SMALL, check_against_grid, simulate

from metapers.core import choice_model, task
from metapers.core.population import UserModel
from metapers.evaluation.bayes import ceiling

RULES = [('random', 2), ('controversial', 2), ('extreme', 2), ('best_of_k', 3)]
NOISELESS, NOISY, FLIPPED = UserModel(0.3), UserModel(0.3, 0.4), UserModel(0.3, 0.0, 0.15)


@pytest.mark.parametrize('rule', RULES, ids=str)
def test_bayes_agrees_with_a_fine_grid(rule):
  for user_model in (NOISELESS, NOISY, FLIPPED):  # of one compiled program
    tasks, truth = simulate(user_model, rule, **SMALL)
    check_against_grid(tasks, truth, [user_model], rule)


def test_a_floor_under_the_weights_agrees_with_a_fine_grid():
  floor = (0.0, 0.5, 0.1)
  for user_model in (NOISELESS, NOISY):
    tasks, truth = simulate(user_model, **SMALL, floor=floor)
    check_against_grid(tasks, truth, [user_model], ('random', 2), floor)


def test_a_mixture_agrees_with_a_fine_grid():
  user_models = [UserModel(0.2), UserModel(3.0, 0.5, 0.1)]
  tasks, truth = simulate(user_models[0], **SMALL)
  check_against_grid(tasks, truth, user_models, ('random', 2))


def weighted(tasks, weight):
  weight = jnp.broadcast_to(jnp.asarray(weight, jnp.float32), tasks.support.mask.shape)
  return tasks._replace(support=tasks.support._replace(weight=weight))


@pytest.mark.parametrize('rule', [RULES[0], RULES[2]], ids=str)
def test_weights_agree_with_a_fine_grid(rule):
  for user_model in (NOISY, FLIPPED):
    tasks, truth = simulate(user_model, rule, **SMALL)
    check_against_grid(weighted(tasks, (0.5, 0, 3, 1, 2)), truth, [user_model], rule)


def test_weight_two_is_the_comparison_twice():
  tasks, truth = simulate(NOISY, **SMALL)
  twice = jnp.array([0, 1, 2, 3, 3])
  support = jax.tree.map(lambda x: x[:, twice], tasks.support)
  options = {'pair_rule': 'random', **SETTINGS}

  def predict(support):
    shown = truth._replace(support_rewards=truth.support_rewards[:, twice])
    predictions, _ = ceiling.bayes(tasks._replace(support=support), shown, [NOISY], **options)
    return jnp.exp(predictions.log_probs[-1])

  once = support._replace(mask=support.mask.at[:, 4].set(False))
  weight_two = once._replace(weight=jnp.where(jnp.arange(5) == 3, 2.0, jnp.ones((3, 5))))
  np.testing.assert_allclose(predict(weight_two), predict(support), atol=0.03)
  assert jnp.abs(predict(once) - predict(support)).max() > 0.1


def test_weight_zero_is_a_masked_comparison():
  tasks, truth = simulate(NOISELESS, **SMALL)
  choice = tasks.support.choice.at[:, 3:].set(1 - tasks.support.choice[:, 3:])
  tasks = tasks._replace(support=tasks.support._replace(choice=choice))
  options = {'pair_rule': 'random', **SETTINGS}
  got, diagnostics = ceiling.bayes(weighted(tasks, (1, 1, 1, 0, 0)), truth, [NOISELESS], **options)
  masked = tasks._replace(support=task.with_shots(tasks.support, 3))
  want, _ = ceiling.bayes(masked, truth, [NOISELESS], **options)
  jax.tree.map(np.testing.assert_array_equal, got, want)
  assert np.all(diagnostics.num_unexplained == 0)


LARGE = {'num_users': 50, 'num_support': 8, 'num_query': 32, 'num_models': 10}


@functools.cache
def predict_large(user_model, assumed):
  """Predicts users of one model under the assumption of another, and evaluates that: [L, T]."""
  tasks, truth = simulate(user_model, **LARGE)
  options = {'pair_rule': 'random', 'shots': (0, 3, 8), 'num_particles': 500}
  predictions, diagnostics = ceiling.bayes(tasks, truth, [assumed], **options)
  observed = jax.vmap(ceiling.accuracy_and_nll, (0, None))(predictions.log_probs, tasks.query)
  return predictions, diagnostics, *observed


@pytest.mark.parametrize(
  'user_model', [UserModel(0.05), UserModel(1.0), UserModel(0.1, 0.3), UserModel(0.05, 0.0, 0.1)]
)
def test_bayes_is_calibrated(user_model):
  predictions, diagnostics, accuracy, nll = predict_large(user_model, user_model)
  p = jnp.exp(predictions.log_probs)
  for surplus in (
    p.max(-1).mean(-1) - accuracy,
    -(p * predictions.log_probs).sum(-1).mean(-1) - nll,
  ):
    error = surplus.std(-1) / surplus.shape[-1] ** 0.5
    assert np.all(np.abs(surplus.mean(-1)) < 4 * error + 0.003)
  assert np.all(np.diff(nll.mean(-1)) < 0)
  assert np.all(diagnostics.accuracy_error < 0.01)
  assert np.all(np.abs(diagnostics.accuracy_gap) < 8 * diagnostics.accuracy_error + 0.005)
  assert np.all(np.abs(diagnostics.nll_gap) < 8 * diagnostics.nll_error + 0.005)


def test_other_priors_are_not_above_it():
  *_, accuracy, nll = predict_large(UserModel(0.05), UserModel(0.05))
  for other in (UserModel(1.0), UserModel(0.05, 0.5), UserModel(0.05, 0.0, 0.2)):
    *_, other_accuracy, other_nll = predict_large(UserModel(0.05), other)
    for gain in (other_accuracy - accuracy, nll - other_nll):
      error = gain.std(-1) / gain.shape[-1] ** 0.5
      assert np.all(gain.mean(-1) <= 2 * error + 0.001)
    assert other_nll[-1].mean() > nll[-1].mean() + 0.01


def test_sharp_priors_and_many_noiseless_choices_kill_no_user():
  user_model = UserModel(0.01)
  tasks, truth = simulate(user_model, **{**LARGE, 'num_users': 8, 'num_support': 64})
  predictions, diagnostics = ceiling.bayes(
    tasks, truth, [user_model], pair_rule='random', shots=(16, 64), num_particles=500
  )
  assert np.all(diagnostics.num_unexplained == 0)
  assert np.all(diagnostics.effective_size > 100)
  _, nll = jax.vmap(ceiling.accuracy_and_nll, (0, None))(predictions.log_probs, tasks.query)
  assert np.all(np.isfinite(predictions.log_probs))
  assert nll[1].mean() < 0.08
  assert nll[1].max() < 0.6


def test_masked_comparisons_are_skipped():
  tasks, truth = simulate(NOISELESS, **SMALL)
  mask = tasks.support.mask.at[:, 1].set(False).at[0, 2:].set(False)
  rewards = jnp.where(mask[..., None, None], truth.support_rewards, jnp.nan)
  choice = jnp.where(mask, tasks.support.choice, -7)
  holed = tasks._replace(support=tasks.support._replace(mask=mask, choice=choice))
  holed_truth = truth._replace(support_rewards=rewards)

  def close(x):
    return jnp.stack([row[order] for row, order in zip(x, jnp.argsort(~mask, -1, stable=True))])

  dense = holed._replace(support=jax.tree.map(close, tasks.support)._replace(mask=close(mask)))
  dense_truth = truth._replace(support_rewards=close(truth.support_rewards))
  options = {'pair_rule': 'random', **SETTINGS}
  got, _ = ceiling.bayes(holed, holed_truth, [NOISELESS], **options)
  want, _ = ceiling.bayes(dense, dense_truth, [NOISELESS], **options)
  assert np.array_equal(got.log_probs, want.log_probs)
  assert np.array_equal(got.log_probs[1, 0], got.log_probs[2, 0])  # there is only one


def test_shots_come_back_in_the_order_asked():
  tasks, truth = simulate(NOISELESS, **SMALL)
  options = {'pair_rule': 'random', **SETTINGS}
  straight, _ = ceiling.bayes(tasks, truth, [NOISELESS], **options)
  turned, _ = ceiling.bayes(tasks, truth, [NOISELESS], **{**options, 'shots': (5, 0, 2)})
  assert np.array_equal(turned.log_probs, straight.log_probs[jnp.array([2, 0, 1])])


def test_oracle_is_never_wrong_without_noise_and_as_often_as_the_noise_with_it():
  tasks, truth = simulate(NOISELESS, **LARGE)
  predictions = ceiling.oracle(tasks, truth, num_rows=2)
  assert predictions.log_probs.shape == (2, *tasks.query.candidates.mask.shape)
  assert choice_model.correct(predictions.log_probs[1], tasks.query).min() == 1
  tasks, truth = simulate(FLIPPED, **LARGE)
  predictions = ceiling.oracle(tasks, truth, num_rows=1, flip_rate=FLIPPED.flip_rate)
  accuracy, nll = ceiling.accuracy_and_nll(predictions.log_probs[0], tasks.query)
  entropy = stats.bernoulli(FLIPPED.flip_rate).entropy()
  np.testing.assert_allclose(accuracy.mean(), 1 - FLIPPED.flip_rate, atol=0.04)
  np.testing.assert_allclose(nll.mean(), entropy, atol=0.07)
  best = truth.slate_rewards @ truth.weights[:, None, :, None]
  np.testing.assert_allclose(predictions.slate_scores[0], best[..., 0], rtol=1e-5, atol=1e-6)


def test_oracle_splits_ties_and_leaves_masked_candidates_nothing():
  tasks, truth = simulate(NOISELESS, ('best_of_k', 3), **SMALL)
  mask = tasks.query.candidates.mask.at[..., 2].set(False)
  query = tasks.query._replace(candidates=tasks.query.candidates._replace(mask=mask))
  tied = jnp.ones_like(truth.query_rewards)
  predictions = ceiling.oracle(
    tasks._replace(query=query), truth._replace(query_rewards=tied), num_rows=1
  )
  expected = np.broadcast_to([0.5, 0.5, 0.0], mask.shape)
  np.testing.assert_allclose(jnp.exp(predictions.log_probs[0]), expected, atol=1e-6)


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    ({'pair_rule': 'best'}, 'unknown pair_rule'),
    ({'shots': (0, 9)}, 'shots must lie in 0..5'),
    ({'shots': ()}, 'shots must lie in 0..5'),
    ({'user_models': []}, 'user models, got 0'),
    ({'user_models': [UserModel(0.0)]}, 'concentration > 0'),
    ({'user_models': [UserModel(0.1, 0.0, 1.0)]}, 'flip_rate in'),
  ],
)
def test_bad_options_are_refused_by_name(options, message):
  tasks, truth = simulate(NOISELESS, **SMALL)
  given = {'user_models': [NOISELESS], 'pair_rule': 'random', 'shots': (0,)} | options
  with pytest.raises(ValueError, match=message):
    ceiling.bayes(tasks, truth, given.pop('user_models'), **given)
