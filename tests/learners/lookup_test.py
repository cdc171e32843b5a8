import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize

from metapers import learners
from metapers.core import choice_model, task
from metapers.core.task import Candidates, Task
from metapers.learners import lookup, mixture, user_bank
from metapers.learners.utility import utilities, utility_network

D, U, N = 3, 6, 20
OPTIONS = {'num_features': D, 'num_histories': U, 'hidden': (4,), 'num_neighbors': 4, 'ridge': 0.7}
KEY = jax.random.key(9)


@functools.cache
def learner():
  return learners.make('lookup', **OPTIONS)


@functools.cache
def histories():
  """Users who each like a direction of their own; the last one did nothing."""
  x = jax.random.normal(jax.random.key(1), (U, N, 2, D))
  directions = 4 * jax.random.normal(jax.random.key(2), (U, D))
  choice = jnp.argmax(jnp.einsum('unkd,ud->unk', x, directions), -1)
  did = jnp.broadcast_to((jnp.arange(U) < U - 1)[:, None], (U, N))
  support = task.choices(Candidates(x, jnp.ones((U, N, 2), bool)), choice, did)
  context = jnp.zeros((U, 0))
  return Task(support, jax.tree.map(lambda leaf: leaf[:, :0], support), jnp.arange(U), context)


@functools.cache
def unprepared():
  return learner().init(jax.random.key(0))


@functools.cache
def prepared():
  return jax.jit(learner().prepare)(unprepared(), histories(), KEY)


def adapt(support, params=None):
  return learner().adapt(prepared() if params is None else params, support, jnp.zeros(0), KEY)


def history(user):
  return task.take(histories().support, user)


def pooled_log_p(candidates):
  scores = utilities(utility_network(D, OPTIONS['hidden']), unprepared()['pooled'], candidates)
  return choice_model.log_probs(scores, candidates.mask)


def reference_head(given):
  """Ridge-penalised logistic regression on differences of features, by scipy."""
  network = utility_network(D, OPTIONS['hidden'])
  offset = np.asarray(utilities(network, unprepared()['pooled'], given.candidates))
  given = jax.device_get(given)
  sign = np.where(given.choice == 0, 1.0, -1.0)
  contrast = sign[:, None] * (given.candidates.features[:, 0] - given.candidates.features[:, 1])
  margin = sign * (offset[:, 0] - offset[:, 1])
  weight = np.where(given.mask, given.weight, 0)

  def energy(v):
    nll = np.sum(weight * np.logaddexp(0, -margin - contrast @ v))
    return nll + 0.5 * OPTIONS['ridge'] * v @ v

  return optimize.minimize(energy, np.zeros(D), tol=1e-9).x


@pytest.mark.parametrize('user', range(U - 1))
def test_the_bank_is_ridge_penalised_logistic_regression(user):
  expected = reference_head(history(user))
  np.testing.assert_allclose(prepared()['bank']['heads'][user], expected, atol=2e-3)


def test_the_bank_honours_weights_and_masks():
  weight = jax.random.uniform(jax.random.key(3), (U, N), minval=0.0, maxval=3.0)
  mask = histories().support.mask & (jnp.arange(N) != 2)[None]
  support = histories().support._replace(weight=weight, mask=mask)
  bank = learner().prepare(unprepared(), histories()._replace(support=support), KEY)['bank']
  expected = reference_head(task.take(support, 1))
  np.testing.assert_allclose(bank['heads'][1], expected, atol=2e-3)


def test_who_did_nothing_is_no_neighbor():
  np.testing.assert_array_equal(prepared()['bank']['is_used'], [1, 1, 1, 1, 1, 0])
  state = user_bank.Agreement(jnp.array([-1.0, -2.0, -3.0, -4.0, -5.0, 0.0]), jnp.asarray(3.0))
  found = lookup.nearest(
    prepared()['bank'], state, num_neighbors=U, temperature=1.0, prior_strength=1.0
  )
  np.testing.assert_allclose(found.shares[:5], jax.nn.softmax(state.log_likelihood[:5]), rtol=1e-5)
  assert found.shares[5] == 0


@pytest.mark.parametrize('user', range(U - 1))
def test_the_history_of_a_known_user_finds_that_user(user):
  state = adapt(history(user))
  assert int(jnp.argmax(state.log_likelihood.at[U - 1].set(-jnp.inf))) == user


def test_the_prediction_is_the_mixture_of_the_formula():
  state = adapt(task.with_shots(history(2), 3))
  query = history(0).candidates
  log_shares = np.asarray(state.log_likelihood) / 2.0
  near = np.argsort(-log_shares[: U - 1])[: OPTIONS['num_neighbors']]
  shares = np.exp(log_shares[near] - log_shares[near].max())
  shares /= shares.sum()
  pooled = np.asarray(pooled_log_p(query))
  own = query.features @ prepared()['bank']['heads'][near].T  # [N, K, k]
  each = np.asarray(jax.nn.softmax(pooled[..., None] + own, 1))
  expected = 0.25 * np.exp(pooled) + 0.75 * each @ shares  # n = 3 and prior_strength = 1
  np.testing.assert_allclose(
    jnp.exp(learner().predict(prepared(), state, query)), expected, atol=1e-5
  )


def test_no_comparisons_and_no_bank_both_give_the_pooled_answer():
  query = history(0).candidates
  nothing = adapt(task.with_shots(history(0), 0))
  no_bank = adapt(history(0), unprepared())
  for params, state in ((prepared(), nothing), (unprepared(), no_bank)):
    made = learner().predict(params, state, query)
    np.testing.assert_allclose(jnp.exp(made), jnp.exp(pooled_log_p(query)), atol=1e-6)


def test_one_comparison_after_another_is_all_of_them():
  state, update = adapt(task.with_shots(history(3), 0)), learner().update
  assert update is not None
  for n in range(N):
    comparison = task.take(history(3), jnp.array([n]))
    state = update(prepared(), state, comparison, jnp.zeros(0), KEY)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), state, adapt(history(3)))


def test_draws_come_as_often_as_their_shares_say():
  rows = mixture.stratified(jnp.array([0.5, 0.0, 0.3, 0.2]), 10)
  np.testing.assert_array_equal(np.bincount(rows, minlength=4), [5, 0, 3, 2])


def test_draws_about_whom_nothing_is_known_differ_as_known_users_do():
  nothing = adapt(task.with_shots(history(0), 0))
  drawn = learner().sample(prepared(), nothing, history(0).candidates)
  assert float(drawn.std(0).mean()) > 0.5


def test_the_loss_trains_the_pooled_utility_alone():
  episode = task.take(histories(), 0)._replace(query=history(1), context=jnp.zeros(0))
  gradient = jax.grad(lambda p: learner().loss(p, episode, KEY)[0])(prepared())
  assert not any(np.any(leaf) for leaf in jax.tree.leaves(gradient['bank']))
  assert any(np.any(leaf) for leaf in jax.tree.leaves(gradient['pooled']))


def test_histories_of_another_number_of_users_are_refused():
  few = task.take(histories(), jnp.arange(2))
  with pytest.raises(ValueError, match='num_histories=6 and is given the histories of 2 users'):
    learner().prepare(unprepared(), few, KEY)


@pytest.mark.parametrize('name', ['num_histories', 'num_neighbors'])
def test_bad_options_are_named(name):
  with pytest.raises(ValueError, match=f'{name} must be at least 1, got 0'):
    learners.make('lookup', **(OPTIONS | {name: 0}))
