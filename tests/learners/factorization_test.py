"""LoRe as published, RFM and PReF; `low_rank_test` is of the refit with a prior."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize
from sklearn import linear_model

from metapers import learners
from metapers.core import choice_model, task
from metapers.core.task import Candidates
from metapers.learners import svd_start
from metapers.populations import toy

D, U, KEY = 4, 6, jax.random.key(0)
NO_CONTEXT = jnp.zeros(0)


def made(name, **options):
  learner = learners.make(name, num_features=D, num_users=U, **options)
  return learner, learner.init(KEY)


def episode(user=0, num_candidates=2):
  population = toy.two_types(
    num_features=D, num_support=9, num_query=5, num_candidates=num_candidates
  )
  given, _ = population.episode_of((), jnp.asarray(user), 'train')
  return given._replace(user=jnp.asarray(user, jnp.int32))


def whole(given):
  return task.concat(given.support, given.query)


def basis(params, candidates):
  features = np.asarray(candidates.features, float)
  return features @ np.asarray(params['basis']['linear']['kernel'], float)


def nll_of(scores, choice):
  chosen = np.take_along_axis(scores, np.asarray(choice)[:, None], 1)[:, 0]
  return np.logaddexp.reduce(scores, 1) - chosen


def test_lore_of_one_basis_reward_is_bradley_terry():
  lore, params = made('lore', rank=1, temperature=8.0)  # a power of 2: dividing by it is exact
  pooled = learners.make('pooled', num_features=D, hidden=())
  given = episode(3)
  everything = given._replace(query=whole(given))

  def of_pooled(kernel):
    return pooled.loss({'linear': {'kernel': kernel / 8}}, everything, KEY)[0]

  kernel = params['basis']['linear']['kernel']
  expected, slope = jax.value_and_grad(of_pooled)(kernel)
  value, gradient = jax.value_and_grad(lambda p: lore.loss(p, given, KEY)[0])(params)
  np.testing.assert_allclose(value, expected, rtol=1e-6)
  np.testing.assert_allclose(gradient['basis']['linear']['kernel'], slope, rtol=1e-5)
  assert not gradient['table'].any()
  state = lore.adapt(params, given.support, NO_CONTEXT, KEY)
  np.testing.assert_array_equal(
    lore.predict(params, state, given.query.candidates),
    pooled.predict({'linear': {'kernel': kernel / 8}}, (), given.query.candidates),
  )


def test_the_loss_of_lore_is_the_mean_over_a_known_users_comparisons():
  lore, params = made('lore', rank=3)
  given = episode(2, num_candidates=3)
  row = np.asarray(params['table'], float)[2]
  weights = np.exp(row) / np.exp(row).sum()
  scores = basis(params, whole(given).candidates) @ weights / 100
  value, _ = lore.loss(params, given, KEY)
  np.testing.assert_allclose(value, nll_of(scores, whole(given).choice).mean(), rtol=1e-5)


def test_the_refit_of_lore_is_adam_from_the_mean_of_known_users():
  lore, params = made('lore', rank=3, temperature=0.5, inner_steps=7, inner_learning_rate=0.2)
  given = episode().support
  features, rows = basis(params, given.candidates), np.asarray(params['table'], float)
  logits = np.log(np.mean(np.exp(rows) / np.exp(rows).sum(1, keepdims=True), 0))
  first, second = np.zeros(3), np.zeros(3)
  for n in range(1, 8):
    weights = np.exp(logits) / np.exp(logits).sum()
    scores = features @ weights / 0.5
    p = np.exp(scores - np.logaddexp.reduce(scores, 1)[:, None])
    off = np.eye(2)[np.asarray(given.choice)] - p
    slope = -np.einsum('nk,nkr->r', off, features) / 0.5 / len(p)
    slope = weights * (slope - weights @ slope)
    first, second = 0.9 * first + 0.1 * slope, 0.999 * second + 0.001 * slope**2
    move = first / (1 - 0.9**n) / (np.sqrt(second / (1 - 0.999**n)) + 1e-8)
    logits = logits - 0.2 * move
  expected = np.exp(logits) / np.exp(logits).sum()
  np.testing.assert_allclose(lore.adapt(params, given, NO_CONTEXT, KEY), expected, atol=1e-4)


@pytest.mark.parametrize('name', ['lore', 'rfm', 'pref'])
def test_without_comparisons_a_new_user_is_the_mean_of_known_users(name):
  learner, params = made(name, rank=3)
  none = task.with_shots(episode().support, 0)
  table = jax.nn.softmax(params['table']) if name == 'lore' else params['table']
  found = learner.adapt(params, none, NO_CONTEXT, KEY)
  np.testing.assert_allclose(found, table.mean(0), rtol=1e-5, atol=1e-6)


def test_a_new_user_of_rfm_is_the_ridge_logistic_regression_of_another_library():
  learner, params = made('rfm', rank=3, ridge=0.7)
  half = jnp.array([[1.0, -2.0, 0.5]] * (U // 2))
  params = params | {'table': jnp.concatenate([half, -half])}  # of mean 0
  given = episode().support
  features = basis(params, given.candidates)
  spread = np.mean(np.asarray(params['table'], float) ** 2)
  regression = linear_model.LogisticRegression(
    C=spread / 0.7, fit_intercept=False, tol=1e-10, max_iter=1000
  )
  regression.fit(features[:, 0] - features[:, 1], np.asarray(given.choice) == 0)
  found = learner.adapt(params, given, NO_CONTEXT, KEY)
  np.testing.assert_allclose(found, regression.coef_[0], atol=2e-4)


def test_a_new_user_of_rfm_is_shrunk_to_the_mean_of_known_users():
  learner, params = made('rfm', rank=3, ridge=2.0)
  given = episode(num_candidates=3).support
  table = np.asarray(params['table'], float)
  mean = table.mean(0)
  features = basis(params, given.candidates)

  def energy(weights):
    off = weights - mean
    return nll_of(features @ weights, given.choice).sum() + off @ off / np.mean((table - mean) ** 2)

  expected = optimize.minimize(energy, mean, tol=1e-10).x
  found = learner.adapt(params, given, NO_CONTEXT, KEY)
  np.testing.assert_allclose(found, expected, atol=2e-4)
  assert np.abs(expected - mean).max() > 0.1


def test_the_units_of_features_do_not_change_the_refit_of_rfm():
  learner, params = made('rfm', rank=3)
  kernel = params['basis']['linear']['kernel']
  rescaled = {'basis': {'linear': {'kernel': 4 * kernel}}, 'table': params['table'] / 4}
  given = episode()
  found, expected = (
    learner.predict(
      p, learner.adapt(p, given.support, NO_CONTEXT, KEY), given.query.candidates
    )
    for p in (rescaled, params)
  )  # fmt: skip
  np.testing.assert_allclose(found, expected, atol=1e-3)


def test_known_users_who_are_alike_leave_a_new_one_at_their_mean():
  learner, params = made('rfm', rank=3)
  params = params | {'table': jnp.ones((U, 3))}
  found = learner.adapt(params, episode().support, NO_CONTEXT, KEY)
  np.testing.assert_allclose(found, 1, atol=1e-4)


def test_l2_is_of_the_known_users_own_weights():
  given = episode(4)
  plain, params = made('rfm', rank=3)
  value, metrics = made('rfm', rank=3, l2=0.3)[0].loss(params, given, KEY)
  expected = plain.loss(params, given, KEY)[0]
  row = np.asarray(params['table'])[4]
  np.testing.assert_allclose(value, expected + 0.3 * row @ row, rtol=1e-5)
  np.testing.assert_allclose(metrics['nll'], expected, rtol=1e-6)


def test_pref_starts_at_the_svd_of_the_known_users():
  learner, params = made('pref', rank=3)
  population = toy.two_types(num_features=D, num_support=20, num_query=10, num_users=U)
  histories = population.histories(())
  order = jnp.array([4, 2, 0, 1, 3, 5])
  started = learner.start(params, task.take(histories, order), KEY)
  found = svd_start.factors(histories, 3)
  utilities = started['table'] @ started['basis']['linear']['kernel'].T
  np.testing.assert_allclose(utilities, found.weights @ found.directions.T, atol=1e-3)
  before, after = (
    np.mean([learner.loss(p, task.take(histories, u), KEY)[1]['nll'] for u in range(U)])
    for p in (params, started)
  )
  assert after < before


def test_a_start_of_fewer_factors_than_the_rank_is_the_svd_and_learns_the_other_features():
  learner, params = made('rfm', rank=D + 2, start_svd=True)
  population = toy.two_types(num_features=D, num_users=U)
  histories = population.histories(())
  started = learner.start(params, histories, KEY)
  kernel = started['basis']['linear']['kernel']
  found = svd_start.factors(histories, D)
  np.testing.assert_allclose(
    started['table'] @ kernel.T, found.weights @ found.directions.T, atol=1e-3
  )
  np.testing.assert_array_equal(started['table'][:, D:], params['table'][:, D:])
  slope = jax.grad(lambda p: learner.loss(p, task.take(histories, 0), KEY)[0])(started)
  assert slope['basis']['linear']['kernel'][:, D:].any(0).all()


@pytest.mark.parametrize(
  ('name', 'options', 'message'),
  [
    ('lore', {'num_users': 0}, 'lore fits a table of known users'),
    ('rfm', {'num_users': 0}, 'rfm fits a table of known users'),
    ('lore', {'temperature': 0.0}, 'temperature must be positive'),
    ('rfm', {'ridge': 0.0}, 'ridge must be positive'),
    ('pref', {'l2': -1.0}, 'l2 must be at least 0, got -1.0'),
    ('pref', {'rank': 0}, 'rank must be at least 1'),
  ],
)
def test_impossible_options_are_refused(name, options, message):
  with pytest.raises(ValueError, match=message):
    learners.make(name, **{'num_features': D, 'num_users': U} | options)


def test_contradictions_keep_all_weights_finite():
  x = jax.random.normal(KEY, (1, 2, D))
  features = jnp.broadcast_to(x, (200, 2, D))
  choice = jnp.arange(200, dtype=jnp.int32) % 2
  given = task.choices(Candidates(features, jnp.ones((200, 2), bool)), choice)
  for name in ('lore', 'rfm', 'pref'):
    learner, params = made(name)
    state = learner.adapt(params, given, NO_CONTEXT, KEY)
    log_p = choice_model.log_probs(
      learner.score(params, state, given.candidates), jnp.ones((200, 2), bool)
    )
    assert np.isfinite(state).all() and np.isfinite(log_p).all()
