"""What callers get wrong is refused in words, as they run it: without the type checks of tests."""

import functools

import jax
import jaxtyping
import numpy as np
import pytest

from metapers.core import population
from metapers.io import leaves
from metapers.learners import make
from metapers.serving import comparisons, exports
from metapers.serving.personalizer import Comparisons, Personalizer, pairs

D, U = 10, 8


@pytest.fixture(autouse=True)
def unchecked(monkeypatch):
  monkeypatch.setattr(jaxtyping.config, 'jaxtyping_disable', True)


@functools.cache
def served():
  params = leaves.named(make('latent_np', num_features=D).init(jax.random.key(0)))
  scaling = population.unscaled(D)
  return Personalizer(
    exports.Export('latent_np', {'num_features': D}, params, 2, scaling), capacity=8
  )


def draw(*size, seed=0):
  return np.random.default_rng(seed).normal(size=(*size, D)).astype(np.float32)


@functools.cache
def one():
  return served().adapt(pairs(*draw(2, 5)))


@functools.cache
def many():
  return served().adapt(pairs(*draw(2, U, 5)))


@pytest.mark.parametrize(
  ('call', 'expected'),
  [
    (lambda model: model.best_of(many(), draw(U)), r'of 8 users needs features \[8, R, D\]'),
    (lambda model: model.best_of(many(), draw(5, 3)), r'\[8, R, D\].*np.broadcast_to'),
    (
      lambda model: model.best_of(one(), draw()),
      r'of one user needs features \[R, D\], got .*10',
    ),
    (lambda model: model.ask(many(), draw(U, 2)), r'needs features \[8, M, K, D\]'),
    (lambda model: model.ask(one(), draw(6)), r'needs features \[M, K, D\]'),
    (lambda model: model.score(many(), draw(U)), r'needs features \[8, N, D\]'),
    (lambda model: model.score(one(), {'a': draw(3)}), r'of several arrays \(a\) are not served'),
    (lambda model: model.score(one(), 3.0), r'needs features \[N, D\], got shape \[\]'),
    (lambda model: model.probability(many(), *draw(2, U)), r'needs features \[8, N, D\]'),
    (lambda model: model.uncertainty(many(), *draw(2, U)), r'needs features \[8, N, D\]'),
  ],
)
def test_an_axis_too_few_is_refused_with_the_shape_expected(call, expected):
  with pytest.raises(ValueError, match=expected):
    call(served())


def test_the_same_is_shown_to_all_by_broadcasting():
  model, shown = served(), draw(6, 2)
  best = model.best_of(many(), np.broadcast_to(shown[:, 0], (U, 6, D)))
  asked = model.ask(many(), np.broadcast_to(shown, (U, *shown.shape)))
  for index in range(U):
    alone = model.user(many(), index)
    assert model.best_of(alone, shown[:, 0]) == best[index]
    assert model.ask(alone, shown) == asked[index]


def test_several_pools_have_a_question_each_and_no_batch():
  model, pools = served(), draw(3, 6, 2)
  found = [int(model.ask(one(), pool)) for pool in pools]
  assert model.ask(one(), pools).tolist() == found
  for profile, several in ((one(), pools), (many(), draw(U, 3, 6, 2))):
    with pytest.raises(ValueError, match=r'one pool a user.*got \[3, 6, 2, 10\] of one: ask for'):
      model.ask(profile, several, count=2)


@pytest.mark.parametrize('size', [(20, 0), (20, 1), (0, 2)])
def test_a_question_has_two_candidates(size):
  with pytest.raises(ValueError, match='at least one question M, of at least two candidates K'):
    served().ask(one(), draw(*size))


def test_nothing_to_choose_from_is_refused():
  with pytest.raises(ValueError, match='nothing to choose from'):
    served().best_of(one(), draw(0))


def test_two_shapes_are_not_compared():
  with pytest.raises(ValueError, match=r'one shape, got \[10\] and \[4, 10\]; np.broadcast_to'):
    served().probability(one(), draw(), draw(4))


@pytest.mark.parametrize(
  ('given', 'expected'),
  [
    (draw(3, 2), r'got ndarray: make them by pairs\(chosen, rejected\)'),
    ((draw(3), draw(3)), 'got tuple: make them by'),
    (Comparisons({'a': draw(3, 2)}, np.zeros(3, int)), r'features of several arrays \(a\)'),
    (Comparisons(draw(2, 3, 4, 2), np.zeros((2, 3, 4), int)), r'or \[U, N, K, D\] of many'),
    (Comparisons(draw(2), np.zeros((), int)), r'expected features \[N, K, D\]'),
    (pairs(*draw(2, 0, 5)), r'no users: features are \[0, 5, 2, 10\]'),
    (Comparisons(np.full((3, 2, D), 'a'), np.zeros(3, int)), 'must be numbers, got dtype <U1'),
  ],
)
def test_what_are_no_comparisons_are_refused(given, expected):
  with pytest.raises(ValueError, match=expected):
    served().adapt(given)


def test_an_update_has_the_users_of_the_profile():
  with pytest.raises(ValueError, match=r'expected features \[8, N, K, D\].*pairs of \[U, 1, D\]'):
    served().update(many(), pairs(*draw(2, U)))
  with pytest.raises(ValueError, match='got ndarray: make them by'):
    served().update(one(), draw(3))
  assert served().update(many(), pairs(*draw(2, U, 1))).history.mask.sum(-1).tolist() == [6] * U


@pytest.mark.parametrize(
  ('given', 'expected'),
  [
    ({'chosen': draw(3), 'rejected': draw(2)}, r'got shapes \[3, 10\] and \[2, 10\]'),
    ({'chosen': draw(2, 2, 3), 'rejected': draw(2, 2, 3)}, r'\[D\], \[N, D\] or \[U, N, D\]'),
    ({'chosen': 1.0, 'rejected': 2.0}, r'\[D\], \[N, D\] or \[U, N, D\]'),
    ({'chosen': [], 'rejected': []}, r'no comparisons are \[0, D\]'),
    ({'chosen': draw(5), 'rejected': draw(5), 'ids': 3}, r'ids must be \[5\], one for each'),
    ({'chosen': draw(2, 3), 'rejected': draw(2, 3), 'ids': np.zeros((3, 2), int)}, r'be \[2, 3\]'),
    ({'chosen': draw(5), 'rejected': draw(5), 'mask': [True] * 4}, r'mask must be \[5\]'),
    ({'chosen': draw(5), 'rejected': draw(5), 'weight': [1.0] * 4}, r'weight must be \[5\]'),
    ({'chosen': {'a': draw(5)}, 'rejected': {'a': draw(5)}}, r'features of several arrays \(a\)'),
  ],
)
def test_pairs_fit_each_other(given, expected):
  with pytest.raises(ValueError, match=expected):
    pairs(**given)


def test_ids_of_single_clicks_need_no_further_axis():
  assert pairs(draw(), draw(), ids=3).ids.tolist() == [3]
  assert pairs(draw(U, 1), draw(U, 1), ids=np.arange(U)).ids.tolist() == [[i] for i in range(U)]


def test_what_cannot_be_forgotten_is_named():
  for wrong in ([0, 1], 1.5, '3'):
    with pytest.raises(ValueError, match='expected one id, a whole number; got'):
      served().forget(one(), wrong)
  with pytest.raises(ValueError, match='user 2: there is no comparison 9'):
    served().forget(many(), [-1, 0, 9, 0, 0, 0, 0, 0])


def test_some_of_many_forget_nothing():
  model = served()
  fewer = model.forget(many(), [4, -1, 4, 4, 4, 4, 4, 4])
  assert fewer.history.mask.sum(-1).tolist() == [4, 5, 4, 4, 4, 4, 4, 4]
  jax.tree.map(np.testing.assert_array_equal, model.forget(many(), [-1] * U), many())


def test_one_of_many_goes_on_alone(tmp_path):
  model = served()
  ada = model.update(model.user(many(), 3), pairs(*draw(2, seed=1)))
  assert ada.history.ids[ada.history.mask].tolist() == [0, 1, 2, 3, 4, 5]
  chosen, rejected = draw(2, U, 5)[:, 3]
  alone = model.update(model.adapt(pairs(chosen, rejected)), pairs(*draw(2, seed=1)))
  jax.tree.map(np.testing.assert_array_equal, ada, alone)
  jax.tree.map(np.testing.assert_array_equal, model.load(model.save(ada, tmp_path / 'ada')), ada)


def test_ids_below_0_and_beyond_the_last_are_refused():
  with pytest.raises(ValueError, match=r'from 0 up.* got -5 at \[0\]'):
    served().update(one(), pairs(*draw(2), ids=-5))
  last = served().update(one(), pairs(*draw(2), ids=2**63 - 1))
  with pytest.raises(ValueError, match='no id follows 9223372036854775807'):
    served().update(last, pairs(*draw(2)))


@pytest.mark.parametrize('capacity', [2.5, 0, -1, '3', None])
def test_a_capacity_is_a_whole_number_from_1_up(capacity):
  with pytest.raises(ValueError, match=f'capacity must be at least 1, .*; got {capacity!r}'):
    Personalizer.load_pretrained(capacity=capacity)


def test_what_is_no_profile_is_refused(tmp_path):
  with pytest.raises(ValueError, match='expected a profile, as adapt makes it, got ndarray'):
    served().score(draw(3), draw(3))
  (tmp_path / 'letter').write_text('Dear Ada,')
  with pytest.raises(ValueError, match='cannot be read'):
    served().load(tmp_path / 'letter')
  with pytest.raises(FileNotFoundError):
    served().load(tmp_path / 'nobody')


@pytest.mark.parametrize(
  ('weight', 'message'),
  [
    ([1, np.nan, 1], r'weight of comparison \[1\] is nan; expected how often it counts'),
    ([1, 1, -1], r'weight of comparison \[2\] is -1'),
    ([np.inf, 1, 1], r'weight of comparison \[0\] is inf'),
    (['a', 'b', 'c'], r'weight must be \[3\] numbers, one for each comparison, got <U1\[3\]'),
  ],
)
def test_a_weight_that_cannot_be_is_refused(weight, message):
  with pytest.raises(ValueError, match=message):
    served().adapt(pairs(*draw(2, 3), weight=weight))


def test_weights_of_what_is_masked_are_not_looked_at():
  mask, weight = [True, False, False, True], [1, np.nan, 2e300, 1]
  kept = served().adapt(pairs(*draw(2, 4), mask=mask, weight=weight)).history
  assert kept.weight.tolist() == [1, 1, *[0] * 6]


def test_a_weight_of_single_clicks_needs_no_further_axis():
  assert pairs(draw(), draw(), weight=2.5).weight.tolist() == [2.5]
  assert pairs(draw(U, 1), draw(U, 1), weight=np.arange(U)).weight.shape == (U, 1)


def test_a_learner_without_context_is_given_none():
  assert served().adapt(context=np.zeros(0)).context.shape == (0,)
  with pytest.raises(ValueError, match=r'latent_np reads no context: expected context \[0\], got'):
    served().adapt(context=[1.0, 2.0])
  with pytest.raises(ValueError, match=r'reads no context: expected context \[8, 0\]'):
    served().update(many(), pairs(*draw(2, U, 1)), context=np.zeros((U, 2)))
  with pytest.raises(ValueError, match=r'contexts of several arrays \(text\) are not served yet'):
    served().adapt(context={'text': draw()})


@pytest.mark.parametrize(
  ('context', 'users', 'message'),
  [
    (None, (), r'reads a context of 2 numbers: give context=\[2\]'),
    ([1.0, 2.0, 3.0], (), r'expected context \[2\], got float64\[3\]'),
    ([1.0, np.nan], (), r'context at \[1\] is nan; give a finite number'),
    ([[1.0, 2.0], [-np.inf, 0.0]], (2,), r'context at \[1, 0\] is -inf'),
    (['a', 'b'], (), r'expected context \[2\], got <U1\[2\]'),
    ([0.5, 2.0], (3,), r'expected context \[3, 2\], got float64\[2\]'),
    ({'a': [1.0], 'b': [2.0]}, (), r'contexts of several arrays \(a, b\) are not served yet'),
  ],
)
def test_a_context_that_cannot_be_is_refused(context, users, message):
  with pytest.raises(ValueError, match=message):
    comparisons.as_context(context, users, served().export._replace(num_context=2))
