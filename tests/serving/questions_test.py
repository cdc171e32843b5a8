import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metapers.core import meta_learner
from metapers.serving import questions as serving


def information(utilities):
  """Returns that of questions [N, K] to a user with S draws from a posterior, [S, N, K]."""
  learner = meta_learner.from_adapt_score(
    lambda key: (),
    lambda params, support, context, key: (),
    lambda params, state, shown: utilities[0],
    sample=lambda params, state, shown: utilities,
  )
  query = serving.Query((), jnp.zeros((*utilities.shape[1:], 1)))
  return serving.questions(learner).information((), query)


def test_information_is_that_of_the_joint_distribution_of_answer_and_draw():
  utilities = jax.random.normal(jax.random.key(0), (5, 4, 3))
  p = np.exp(np.float64(jax.nn.log_softmax(utilities)))
  expected = np.zeros(4)
  for s, n, k in itertools.product(*map(range, p.shape)):
    joint, independent = p[s, n, k] / 5, p[:, n, k].mean() / 5
    expected[n] += joint * np.log(joint / independent)
  np.testing.assert_allclose(information(utilities), expected, rtol=1e-4)


def test_what_all_draws_agree_on_has_no_information():
  agreed = jnp.array([[2.0, -1.0], [0.0, float(jnp.finfo(jnp.float32).min)]])
  np.testing.assert_allclose(information(jnp.broadcast_to(agreed, (6, 2, 2))), 0, atol=1e-6)


@pytest.mark.parametrize('count', [1, 3, 4, 5, 11])
def test_blocks_of_users_change_nothing(monkeypatch, count):
  monkeypatch.setattr(serving, 'USERS_PER_CALL', 4)
  users = (np.arange(count), np.arange(2 * count).reshape(count, 2), np.zeros((count, 0)))

  def function(params, user):
    number, row, nothing = user
    return {'sum': params + number + row.sum(), 'nothing': nothing}

  found = serving.map_users(function, 10, users)
  assert found['sum'].tolist() == [10 + i + 4 * i + 1 for i in range(count)]
  assert found['nothing'].shape == (count, 0)


def test_few_shapes_are_compiled(monkeypatch):
  monkeypatch.setattr(serving, 'USERS_PER_CALL', 8)
  traced = []

  def function(params, user):
    traced.append(1)
    return params + user

  for count in (5, 6, 7, 8, 30):
    serving.map_users(function, 1, np.arange(count))
  assert len(traced) == 1


@pytest.mark.parametrize(
  ('count', 'expected'), [(0, 1), (1, 1), (2, 2), (3, 4), (64, 64), (65, 128)]
)
def test_powers_of_two(count, expected):
  assert serving.power_of_two(count) == expected


def test_a_function_of_many_users_serves_one():
  def double(users):
    return jax.tree.map(lambda x: 2 * x, users)

  one = serving.for_one_or_many(double, {'x': np.arange(3)}, 0)
  many = serving.for_one_or_many(double, {'x': np.arange(6).reshape(2, 3)}, 1)
  np.testing.assert_array_equal(one['x'], [0, 2, 4])
  np.testing.assert_array_equal(many['x'][0], one['x'])


def supports(features, context=()):
  """Makes one comparison of one candidate for each user, with a context each."""
  features = np.asarray(features, np.float16).reshape(-1, 1, 1, 1)
  size = features.shape[0]
  contexts = np.asarray(context, np.float32).reshape(size, -1)
  shown, weight = np.ones((size, 1, 1), bool), np.ones((size, 1), np.float32)
  return serving.Support(features, shown, np.zeros((size, 1), np.int32), weight, contexts)


def test_a_user_whose_state_diverges_counts_as_new_and_the_others_do_not_notice():
  def adapt(params, support, context, key):
    total = jnp.sum(support.candidates.features, (0, 1))
    inverse = 1 / (total[0] - 3)
    return {'sum': total, 'inverse': inverse, 'context': context, 'nothing': jnp.zeros(0)}

  functions = serving.questions(
    meta_learner.from_adapt_score(lambda key: (), adapt, lambda params, state, shown: shown.mask)
  )
  state, diverged = serving.adapt_users(functions, (), supports([1.0, 3.0, 5.0], [6, 7, 8]))
  with pytest.warns(UserWarning, match=r'diverged for 1 of 3 users \(1\), who count as new'):
    serving.warn_of(diverged)
  assert state['sum'].ravel().tolist() == [1, 0, 5]
  assert state['context'].ravel().tolist() == [6, 7, 8]
  np.testing.assert_allclose(state['inverse'], [-1 / 2, -1 / 3, 1 / 2])


def test_a_context_without_a_finite_state_is_refused():
  def adapt(params, support, context, key):
    return 1 / context

  learner = meta_learner.from_adapt_score(lambda key: (), adapt, lambda params, state, shown: 0)
  with pytest.raises(ValueError, match=r'no finite state for the contexts of users \[0, 2\]'):
    serving.adapt_users(serving.questions(learner), (), supports([1, 1, 1], [0, 1, 0]))


def test_a_user_whose_predictions_are_not_finite_has_diverged_too():
  def adapt(params, support, context, key):
    return jnp.float32(10) ** jnp.sum(support.candidates.features)

  def score(params, state, candidates):
    return state * state * candidates.features[..., 0]

  learner = meta_learner.from_adapt_score(lambda key: (), adapt, score)
  given = supports([1.0, 12.0, 30.0], np.zeros((3, 0)))
  state, diverged = serving.adapt_users(serving.questions(learner), (), given)
  assert diverged.tolist() == [False, False, True]
  np.testing.assert_allclose(state, [10, 1e12, 1], rtol=1e-5)


def test_users_without_a_finite_prediction_are_named():
  def score(params, query):
    return query.user_state / query.features[..., 0]

  features = np.ones((9, 3, 2, 1), np.float32)
  assert serving.query_users(score, (), np.ones(9), features, many=1).shape == (9, 3, 2)
  features[[4, 7]] = 0
  with pytest.raises(ValueError, match='no finite prediction for users 4, 7: the features'):
    serving.query_users(score, (), np.ones(9), features, many=1)
  with pytest.raises(ValueError, match='no finite prediction: the features'):
    serving.query_users(score, (), np.ones(()), features[4], many=0)
  features[:] = 0
  with pytest.raises(ValueError, match=r'for users 0, 1, 2, 3, 4, \.\.\.:'):
    serving.query_users(score, (), np.ones(9), features, many=1)
