import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metapers.core import meta_learner
from metapers.serving import questions as serving


def test_mutual_information_is_that_of_the_joint_distribution():
  log_p = jax.nn.log_softmax(jax.random.normal(jax.random.key(0), (5, 4, 3)))
  p = np.exp(np.float64(log_p))
  expected = np.zeros(4)
  for s, n, k in itertools.product(*map(range, p.shape)):
    joint, independent = p[s, n, k] / 5, p[:, n, k].mean() / 5
    expected[n] += joint * np.log(joint / independent)
  np.testing.assert_allclose(serving.mutual_information(log_p), expected, rtol=1e-4)


def test_what_all_draws_agree_on_tells_nothing():
  certain = jnp.broadcast_to(jnp.log(jnp.array([0.9, 0.1])), (6, 1, 2))
  impossible = jnp.broadcast_to(jnp.array([0.0, float(jnp.finfo(jnp.float32).min)]), (6, 1, 2))
  np.testing.assert_allclose(serving.mutual_information(certain), 0, atol=1e-6)
  np.testing.assert_allclose(serving.mutual_information(impossible), 0, atol=1e-6)


@pytest.mark.parametrize('count', [1, 3, 4, 5, 11])
def test_blocks_of_people_change_nothing(monkeypatch, count):
  monkeypatch.setattr(serving, 'PEOPLE_PER_CALL', 4)
  people = (np.arange(count), np.arange(2 * count).reshape(count, 2), np.zeros((count, 0)))

  def function(params, person):
    number, row, nothing = person
    return {'sum': params + number + row.sum(), 'nothing': nothing}

  found = serving.each(function, 10, people)
  assert found['sum'].tolist() == [10 + i + 4 * i + 1 for i in range(count)]
  assert found['nothing'].shape == (count, 0)


def test_few_shapes_are_compiled(monkeypatch):
  monkeypatch.setattr(serving, 'PEOPLE_PER_CALL', 8)
  seen = []

  def function(params, person):
    seen.append(1)
    return params + person

  for count in (5, 6, 7, 8, 30):
    serving.each(function, 1, np.arange(count))
  assert len(seen) == 1


@pytest.mark.parametrize(
  ('count', 'expected'), [(0, 1), (1, 1), (2, 2), (3, 4), (64, 64), (65, 128)]
)
def test_powers_of_two(count, expected):
  assert serving.power_of_two(count) == expected


def test_draws_are_counted_without_computing():
  def never(*given):
    raise AssertionError('traced, not run')

  def adapt(params, support, context, key):
    return jax.pure_callback(never, jax.ShapeDtypeStruct((), jnp.float32))

  def score(params, state, candidates):
    return candidates.features.sum(-1)

  def sample(params, state, candidates):
    return jnp.zeros((7, *candidates.mask.shape))

  plain = meta_learner.from_adapt_score(lambda key: (), adapt, score)
  drawn = meta_learner.from_adapt_score(lambda key: (), adapt, score, sample=sample)
  assert serving.num_draws(plain, 3) == 1
  assert serving.num_draws(drawn, 3) == 7


def test_who_diverges_stays_a_stranger_and_the_others_do_not_notice():
  def adapt(params, support, context, key):
    total = jnp.sum(support.candidates.features, (0, 1))
    return {'sum': total, 'inverse': 1 / (total[0] - 3), 'nothing': jnp.zeros(0)}

  asked = serving.questions(
    meta_learner.from_adapt_score(lambda key: (), adapt, lambda params, state, shown: shown.mask)
  )
  features = np.array([1.0, 3.0, 5.0], np.float16).reshape(3, 1, 1, 1)
  support = serving.Support(features, np.ones((3, 1, 1), bool), np.zeros((3, 1), np.int32))
  with pytest.warns(UserWarning, match=r'diverged for 1 of 3 people \(1\)'):
    state = serving.adapt(asked, (), support)
  assert state['sum'].ravel().tolist() == [1, 0, 5]
  np.testing.assert_allclose(state['inverse'], [-1 / 2, -1 / 3, 1 / 2])


def test_whose_predictions_are_not_finite_has_diverged_too():
  def adapt(params, support, context, key):
    return jnp.float32(10) ** jnp.sum(support.candidates.features)

  def score(params, state, candidates):
    return state * state * candidates.features[..., 0]

  learner = meta_learner.from_adapt_score(lambda key: (), adapt, score)
  features = np.array([1.0, 12.0, 30.0], np.float16).reshape(3, 1, 1, 1)
  support = serving.Support(features, np.ones((3, 1, 1), bool), np.zeros((3, 1), np.int32))
  with pytest.warns(UserWarning, match=r'diverged for 1 of 3 people \(2\)'):
    state = serving.adapt(serving.questions(learner), (), support)
  np.testing.assert_allclose(state, [10, 1e12, 1], rtol=1e-5)


def test_who_gets_no_finite_answer_is_named():
  def answer(params, asked):
    user_state, features = asked
    return user_state / features[..., 0]

  features = np.ones((9, 3, 2, 1), np.float32)
  assert serving.answer(answer, (), np.ones(9), features, many=1).shape == (9, 3, 2)
  features[[4, 7]] = 0
  with pytest.raises(ValueError, match='no finite answer for people 4, 7: the features'):
    serving.answer(answer, (), np.ones(9), features, many=1)
  with pytest.raises(ValueError, match='no finite answer: the features'):
    serving.answer(answer, (), np.ones(()), features[4], many=0)
  features[:] = 0
  with pytest.raises(ValueError, match=r'for people 0, 1, 2, 3, 4, \.\.\.:'):
    serving.answer(answer, (), np.ones(9), features, many=1)
