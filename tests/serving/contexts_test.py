"""Learners from outside of the package, and what users are told of: their context."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from served_learners import CAPACITY, D, close, draw, export, same

from metapers.core import meta_learner, population
from metapers.io import leaves
from metapers.serving import exports
from metapers.serving.personalizer import Personalizer, pairs


def contextual(features, num_context, *, rate=1.0):
  """A learner from outside of the package: context and choices add to what features are worth."""

  def init(key):
    return {'weights': jax.random.normal(key, (*features.shape, num_context))}

  def adapt(params, support, context, key):
    gap = support.candidates.features[:, 0] - support.candidates.features[:, 1]  # [N, D]
    sign = jnp.where(support.choice == 0, 1.0, -1.0) * support.weight
    return params['weights'] @ context + rate * sign @ gap

  def score(params, user_state, candidates):
    return candidates.features @ user_state

  def update(params, user_state, comparison, context, key):
    raise AssertionError('a profile would depend on the path to its comparisons')

  return meta_learner.from_adapt_score(init, adapt, score, update=update)


CONTEXTUAL = {'num_context': 2, 'rate': 0.5}


@functools.cache
def contextual_export():
  params = leaves.named(contextual(population.vector(D), **CONTEXTUAL).init(jax.random.key(0)))
  scaling = population.unscaled(D)
  return exports.Export('mine.py:contextual', CONTEXTUAL, params, 2, scaling, num_context=2)


@functools.cache
def served_in_context():
  return Personalizer(contextual_export(), learner=contextual, capacity=CAPACITY)


def test_a_model_and_a_profile_say_in_one_line_what_they_hold():
  about = {'source': 'diners', 'num_people': 60}
  model = Personalizer(export('bayes_head', trained_on=about), capacity=CAPACITY)
  assert repr(model) == (
    'Personalizer(bayes_head, 4 features, up to 3 candidates, trained on diners, 60 people; holds '
    'the last 8 comparisons of a person)'
  )
  some = export('bayes_head', trained_on={**about, 'num_trained_on': 38})
  assert 'trained on diners, 38 of its 60 people; ' in repr(Personalizer(some))
  assert ', a context of 2 numbers, up to 2 candidates, trained on unknown data; holds' in repr(
    served_in_context()
  )
  profile = model.adapt(pairs(*draw(2, 3)))
  assert repr(profile) == (
    f'Profile(one person, 3 comparisons held, 4 features, of model {profile.model[:12]})'
  )
  mask = np.array([[True, True, False], [True, False, False]])
  users = model.adapt(pairs(*draw(2, 2, 3), mask=mask))
  assert repr(users).startswith('Profile(2 people, 3 comparisons held (1 to 2 each), 4 features')
  assert 'history=' not in repr(users) and repr(jax.tree.map(np.shape, profile))


def test_a_learner_from_elsewhere_is_given_by_the_caller(tmp_path):
  path = exports.write_export(tmp_path / 'export', contextual_export())
  for make in (
    lambda: Personalizer(contextual_export()),
    lambda: Personalizer.from_checkpoint(path),
  ):
    with pytest.raises(ValueError, match=r"learner 'mine.py:contextual': an export never imports"):
      make()
  with pytest.raises(ValueError, match='takes no rate; it takes features, num_context'):
    Personalizer(contextual_export(), learner=lambda features, num_context: None)
  model = Personalizer.from_checkpoint(path, learner=contextual, capacity=CAPACITY)
  given, queried = pairs(*draw(2, 3)), draw(5, seed=1)
  found, expected = (
    each.score(each.adapt(given, context=np.array([0.5, 2])), queried)
    for each in (model, served_in_context())
  )
  same(found, expected)


def test_a_context_is_kept_with_the_profile(tmp_path):
  model, shown, queried = served_in_context(), draw(4, 2), draw(5, seed=1)
  other, own = np.float32([[3, -1], [0.5, 2]])
  new = model.adapt(context=own)
  weights = contextual_export().params['weights']
  np.testing.assert_allclose(model.score(new, queried), queried @ weights @ own, rtol=1e-5)
  expected = model.adapt(pairs(shown[:, 0], shown[:, 1]), context=own)
  clicked = new
  for click in range(4):
    clicked = model.update(clicked, pairs(*shown[click]))
  same(clicked, expected)
  fewer = model.forget(model.update(expected, pairs(*draw(2, seed=2), ids=9)), 9)
  same(fewer, expected)
  same(model.load(model.save(expected, tmp_path / 'ada')), expected)
  moved = model.adapt(pairs(shown[:3, 0], shown[:3, 1]), context=other)
  same(model.update(moved, pairs(*shown[3]), context=own), expected)


def test_a_profile_is_loaded_whatever_contexts_the_learner_reads(tmp_path):
  def inverse(num_context):
    def adapt(params, support, context, key):
      return 1 / context

    def score(params, user_state, candidates):
      return candidates.features.sum(-1) * user_state.sum()

    return meta_learner.from_adapt_score(lambda key: (), adapt, score)

  scaling = population.unscaled(D)
  made = exports.Export('inverse', {'num_context': 2}, {}, 2, scaling, num_context=2)
  model = Personalizer(made, learner=inverse)
  profile = model.adapt(context=np.array([0.5, 4.0]))
  same(model.load(model.save(profile, tmp_path / 'ada')), profile)


def test_many_users_have_a_context_each():
  model, shown, contexts = served_in_context(), draw(3, 4, 2), draw(3)[:, :2]
  users = model.adapt(pairs(shown[:, :, 0], shown[:, :, 1]), context=contexts)
  for index in range(3):
    alone = model.adapt(pairs(shown[index, :, 0], shown[index, :, 1]), context=contexts[index])
    same(model.user(users, index).context, alone.context)
    close(model.user(users, index).user_state, alone.user_state)
  new = model.adapt(context=contexts)
  assert (new.history.ids.shape[0], model.best_of(new, draw(3, 5)).shape) == (3, (3,))
